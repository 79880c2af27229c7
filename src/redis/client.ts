/** The clients of Redis that sellers have, told apart by their methods: none of them is imported. */
import { InvalidOptionsError } from '../errors.ts'

/** `redis` 5 and 6: a client, a pool, a cluster or sentinels. Connect it before the first payment. */
export interface NodeRedisClient {
  eval(script: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>
  evalSha(digest: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>
}

/** `ioredis` and `iovalkey`: a client or a cluster. */
export interface IoRedisClient {
  defineCommand: unknown
  eval(script: string, keyCount: number, ...keysAndArguments: string[]): Promise<unknown>
  evalsha(digest: string, keyCount: number, ...keysAndArguments: string[]): Promise<unknown>
}

/** `@upstash/redis`, over HTTP: for Workers and the Edge runtime too. */
export interface UpstashRedisClient {
  eval(script: string, keys: string[], parameters: string[]): Promise<unknown>
  evalsha(digest: string, keys: string[], parameters: string[]): Promise<unknown>
}

export type RedisClient = NodeRedisClient | IoRedisClient | UpstashRedisClient

/** Runs a script that the server has, or one that it is given. */
export interface ScriptRunner {
  byDigest(digest: string, keys: string[], parameters: string[]): Promise<unknown>
  bySource(source: string, keys: string[], parameters: string[]): Promise<unknown>
}

/** @throws {InvalidOptionsError} for what is no client */
export function scriptRunner(client: RedisClient): ScriptRunner {
  const given: unknown = client
  if (has(given, 'eval', 'evalSha')) {
    const redis = given as unknown as NodeRedisClient
    return {
      byDigest: (digest, keys, parameters) => redis.evalSha(digest, { keys, arguments: parameters }),
      bySource: (source, keys, parameters) => redis.eval(source, { keys, arguments: parameters }),
    }
  }
  if (has(given, 'eval', 'evalsha', 'defineCommand')) {
    const redis = given as unknown as IoRedisClient
    return {
      byDigest: (digest, keys, parameters) => redis.evalsha(digest, keys.length, ...keys, ...parameters),
      bySource: (source, keys, parameters) => redis.eval(source, keys.length, ...keys, ...parameters),
    }
  }
  if (has(given, 'eval', 'evalsha')) {
    const redis = given as unknown as UpstashRedisClient
    return {
      byDigest: (digest, keys, parameters) => redis.evalsha(digest, keys, parameters),
      bySource: (source, keys, parameters) => redis.eval(source, keys, parameters),
    }
  }
  throw new InvalidOptionsError([
    'redisLedger: client is none of redis (5 or 6), ioredis, iovalkey and @upstash/redis: it has no method eval with evalSha or evalsha',
  ])
}

function has(value: unknown, ...methods: string[]): boolean {
  return (
    typeof value === 'object' &&
    value !== null &&
    methods.every(name => typeof (value as Record<string, unknown>)[name] === 'function')
  )
}

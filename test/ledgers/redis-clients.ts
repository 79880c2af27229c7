/** The clients of Redis that sellers have. */
import { Redis as UpstashRedis } from '@upstash/redis'
import { Cluster as IoCluster, Redis as IoRedis } from 'ioredis'
import { Redis as IoValkey } from 'iovalkey'
import { createClient, createClientPool, createCluster } from 'redis'
import { createClient as createClient5 } from 'redis-5'
import type { RedisClient } from '../../src/redis/index.ts'
import { startUpstash } from '../bed/upstash.ts'

export interface Connected {
  readonly client: RedisClient
  close(): Promise<void>
}

type Connect = (url: string) => Promise<Connected>

export const connectNodeRedis: Connect = async url => {
  const client = createClient({ url, socket: { reconnectStrategy: 50 } })
  // It throws what nobody listens to.
  client.on('error', () => {})
  await client.connect()
  return { client, close: async () => client.destroy() }
}

export const connectIoRedis: Connect = async url => {
  const client = new IoRedis(url, { retryStrategy: () => 50 })
  client.on('error', () => {})
  return { client, close: async () => client.disconnect() }
}

export const clients: Readonly<Record<string, Connect>> = {
  redis: connectNodeRedis,
  'redis 5': async url => {
    const client = await createClient5({ url }).connect()
    return { client, close: async () => client.destroy() }
  },
  'a pool of redis': async url => {
    const client = createClientPool({ url })
    await client.connect()
    return { client, close: async () => client.destroy() }
  },
  ioredis: connectIoRedis,
  'ioredis with a prefix of its own': async url => {
    const client = new IoRedis(url, { keyPrefix: 'shop:' })
    return { client, close: async () => client.disconnect() }
  },
  iovalkey: async url => {
    const client = new IoValkey(url)
    return { client, close: async () => client.disconnect() }
  },
  upstash: async url => {
    const upstash = await startUpstash(url)
    const client = new UpstashRedis({ url: upstash.url, token: upstash.token, enableTelemetry: false })
    return { client, close: async () => upstash[Symbol.asyncDispose]() }
  },
}

/** By the URLs of some of its nodes. */
export const clusterClients: Readonly<Record<string, (urls: readonly string[]) => Promise<Connected>>> = {
  redis: async urls => {
    const client = createCluster({ rootNodes: urls.map(url => ({ url })) })
    client.on('error', () => {})
    await client.connect()
    return { client, close: async () => client.destroy() }
  },
  ioredis: async urls => {
    const client = new IoCluster(urls.map(url => ({ host: '127.0.0.1', port: Number(new URL(url).port) })))
    return { client, close: async () => client.disconnect() }
  },
}

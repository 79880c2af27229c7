/** A connection to Redis by whichever client is installed: `redis`, or else `ioredis`. */
import type { RedisClient } from '../redis/client.ts'
import { ledgerFault } from '../redis/faults.ts'
import { within } from '../runtime/clock.ts'
import { UsageError } from './usage-error.ts'

export interface RedisConnection {
  readonly client: RedisClient
  close(): void
}

/** Not connected yet. */
interface Unconnected extends RedisConnection {
  connect(): Promise<unknown>
}

/** Less than a claim may take (ms). */
const connectTimeoutMs = 4_000
/** Between tries to connect again (ms), at most. */
const longestPauseMs = 2_000

const pauseMs = (tries: number) => Math.min(tries * 50, longestPauseMs)

/**
 * A connection that is lost comes back by itself; what cannot be made at first is an error.
 *
 * @throws {UsageError} when no client is installed
 * @throws {LedgerError} that says what is wrong with the server, without its password
 */
export async function connectRedis(url: string): Promise<RedisConnection> {
  const connection = (await withNodeRedis(url)) ?? (await withIoRedis(url))
  if (connection === undefined)
    throw new UsageError('--ledger redis://… needs a client of Redis: npm install redis, or ioredis')
  try {
    await within(connectTimeoutMs, () => connection.connect())
  } catch (error) {
    connection.close()
    throw ledgerFault(error)
  }
  return connection
}

// Bundlers take an import that may fail for optional only inside a `try`.

async function withNodeRedis(url: string): Promise<Unconnected | undefined> {
  const library = await (async () => {
    try {
      return await import('redis')
    } catch {
      return undefined
    }
  })()
  if (library === undefined) return undefined
  let wasConnected = false
  const client = library.createClient({
    url,
    name: 'x402-aggregator',
    socket: {
      connectTimeout: connectTimeoutMs,
      reconnectStrategy: (tries, cause) => (wasConnected ? pauseMs(tries + 1) : cause),
    },
  })
  // The client throws an error that has no listener; each command reports its own.
  client.on('error', () => {})
  client.once('ready', () => {
    wasConnected = true
  })
  return { client, connect: () => client.connect(), close: () => client.destroy() }
}

async function withIoRedis(url: string): Promise<Unconnected | undefined> {
  const library = await (async () => {
    try {
      return await import('ioredis')
    } catch {
      return undefined
    }
  })()
  if (library === undefined) return undefined
  let wasConnected = false
  const client = new library.Redis(url, {
    connectionName: 'x402-aggregator',
    lazyConnect: true,
    connectTimeout: connectTimeoutMs,
    retryStrategy: tries => (wasConnected ? pauseMs(tries) : null),
  })
  let lastError: unknown
  client.on('error', error => {
    lastError = error
  })
  client.once('ready', () => {
    wasConnected = true
  })
  return {
    client,
    // It says only that the connection is closed; why, is in the event before.
    connect: () => client.connect().catch(error => Promise.reject(lastError ?? error)),
    close: () => client.disconnect(),
  }
}

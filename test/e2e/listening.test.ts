import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { request as httpsRequest } from 'node:https'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { json } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { createGateway } from '../../src/http/index.ts'
import { FacilitatorAggregator } from '../../src/index.ts'
import { type GatewayServer, type ListenOptions, listen, shutDown } from '../../src/node/index.ts'
import { certificate } from '../bed/certificate.ts'
import { startGatewayProcess } from '../bed/gateway-process.ts'
import { FakeFacilitator, kind, newPayload, requirements, settled, supporting } from '../unit/builders.ts'

interface Bed {
  readonly server: GatewayServer
  readonly port: number
  readonly facilitator: FakeFacilitator
  readonly aggregator: FacilitatorAggregator
  /** What the listener has logged. */
  readonly logged: string[]
  /** A client that sends `text`, and no more. */
  open(text?: string): Promise<Socket>
  settle(): Promise<Response>
  connections(): Promise<number>
}

const ends: (() => unknown)[] = []
afterAll(() => Promise.all(ends.map(end => end())))

/** A gateway behind a port, over one facilitator. */
async function start(options: ListenOptions = {}, facilitator = new FakeFacilitator()): Promise<Bed> {
  const aggregator = new FacilitatorAggregator({
    facilitators: [{ id: 'only', client: facilitator }],
    healthCheck: false,
    logger: false,
  })
  const logged: string[] = []
  const gateway = createGateway(aggregator, { rateLimit: false })
  const server = await listen(gateway, { port: 0, log: message => logged.push(message), ...options })
  const port = Number(new URL(server.url).port)
  ends.push(() => {
    server.cut()
    return Promise.all([server.close(), aggregator.stop({ inFlight: 'abort' })])
  })
  return {
    server,
    port,
    facilitator,
    aggregator,
    logged,
    async open(text = '') {
      const socket = connect(port, '127.0.0.1').on('error', () => {})
      ends.push(() => socket.destroy())
      await once(socket, 'connect')
      socket.write(text)
      return socket
    },
    settle() {
      const paymentPayload = newPayload()
      return fetch(`${server.url}/settle`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', connection: 'close' },
        body: JSON.stringify({ x402Version: 2, paymentPayload, paymentRequirements: requirements() }),
      })
    },
    connections: () =>
      new Promise((resolve, reject) =>
        server.server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
      ),
  }
}

/** What fills every buffer on the way to a client, asked for a few times: as much as a facilitator may advertise. */
const long = Array.from({ length: 256 }, (_, index) =>
  kind({ ...(index > 0 && { scheme: `scheme-${index}` }), extra: { notes: 'x'.repeat(2_000) } }),
)

/** Milliseconds until the other side has ended this connection. */
async function endOf(socket: Socket): Promise<number> {
  const begunAt = performance.now()
  socket.resume()
  if (!socket.closed) await once(socket, 'close')
  return performance.now() - begunAt
}

/** What the gateway answers to these bytes, on a connection that ends after it. */
async function answerTo(bed: Bed, lines: string[]): Promise<string> {
  const socket = await bed.open(`${lines.join('\r\n')}\r\n\r\n`)
  let text = ''
  for await (const chunk of socket) text += chunk
  return text
}

/** A facilitator whose settles wait until they are let go. */
function slowFacilitator() {
  let letGo = () => {}
  const isFree = new Promise<void>(resolve => {
    letGo = resolve
  })
  const facilitator = new FakeFacilitator({ settleAnswer: () => isFree.then(() => settled) })
  return { facilitator, letGo: () => letGo() }
}

const settles = ({ facilitator }: Bed, count: number) =>
  vi.waitFor(() => expect(facilitator.calls.settle).toBe(count), { timeout: 10_000 })

describe('a gateway whose connections are all taken', () => {
  it('settles the next payment while clients that send nothing hold every connection', async () => {
    const bed = await start({ maxConnections: 20 })
    const silent = await Promise.all(Array.from({ length: 60 }, () => bed.open('POST /settle HTTP/1.1\r\n')))
    expect(await bed.connections()).toBeLessThanOrEqual(20)
    for (let i = 0; i < 30; i++) expect(await (await bed.settle()).json()).toMatchObject({ success: true })
    await vi.waitFor(() => expect(silent.filter(({ closed }) => closed).length).toBeGreaterThanOrEqual(41))
    expect(bed.logged).toEqual([
      'all 20 connections are taken (maxConnections, --max-connections): new ones take the place of idle and slow ones',
    ])
  })

  it('abandons no payment that is being settled: a new client is refused instead', async () => {
    const { facilitator, letGo } = slowFacilitator()
    const bed = await start({ maxConnections: 3 }, facilitator)
    const inFlight = [bed.settle(), bed.settle(), bed.settle()]
    await settles(bed, 3)
    await endOf(await bed.open())
    await expect(bed.settle()).rejects.toThrow('fetch failed')
    letGo()
    for (const answer of inFlight) expect(await (await answer).json()).toMatchObject({ success: true })
    expect(await (await bed.settle()).json()).toMatchObject({ success: true })
    expect(bed.logged).toEqual([
      'all 3 connections are taken (maxConnections, --max-connections): new ones are refused, as each waits for an answer',
    ])
  })

  it('gives up the client that has never sent a request before the one that is only idle', async () => {
    const bed = await start({ maxConnections: 2 })
    const kept = await bed.open('GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n')
    await once(kept, 'data')
    const silent = await bed.open()
    const newcomer = await bed.open()
    await endOf(silent)
    expect([kept.closed, newcomer.closed]).toEqual([false, false])
  })

  it('settles payments that arrive together while those who were refused hold every connection', async () => {
    const bed = await start({ maxConnections: 20 })
    for (let i = 0; i < 20; i++) {
      const refused = await bed.open('GET /nowhere HTTP/1.1\r\nhost: localhost\r\n\r\n')
      await once(refused, 'data')
    }
    const answers = await Promise.all(Array.from({ length: 20 }, () => bed.settle()))
    for (const answer of answers) expect(await answer.json()).toMatchObject({ success: true })
  })

  it('is refused a limit that would let nobody in', async () => {
    await expect(start({ maxConnections: 0 })).rejects.toThrow('maxConnections: expected a whole number')
  })
})

/** A request whose body does not arrive in full. */
const halfAPayment =
  'POST /settle HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{'

describe.concurrent('a client of the gateway', () => {
  it('has 10 s to send its headers, or nothing at all', async () => {
    const bed = await start()
    const [slow, silent] = [await bed.open('POST /settle HTTP/1.1\r\nhost: localhost\r\n'), await bed.open()]
    for (const duration of await Promise.all([endOf(slow), endOf(silent)])) {
      expect(duration).toBeGreaterThan(8_000)
      expect(duration).toBeLessThan(14_000)
    }
  })

  it('has 15 s to send its payment', async () => {
    const bed = await start()
    const slow = await bed.open(halfAPayment)
    const duration = await endOf(slow)
    expect(duration).toBeGreaterThan(13_000)
    expect(duration).toBeLessThan(19_000)
  })

  it('has 15 s to read its answers', async () => {
    const bed = await start({}, new FakeFacilitator({ supportedAnswer: supporting(...long) }))
    const socket = await bed.open('GET /supported HTTP/1.1\r\nhost: localhost\r\n\r\n'.repeat(20))
    const begunAt = performance.now()
    socket.pause()
    await vi.waitFor(async () => expect(await bed.connections()).toBe(0), { timeout: 40_000, interval: 100 })
    expect(performance.now() - begunAt).toBeGreaterThan(13_000)
    expect(performance.now() - begunAt).toBeLessThan(25_000)
  })

  it('may keep its connection for longer than proxies do, so that no settle meets its end', async () => {
    const bed = await start()
    const { headers } = await fetch(`${bed.server.url}/healthz`)
    expect(headers.get('keep-alive')).toBe('timeout=90')
  })
})

describe('a proxy that keeps its connections', () => {
  it('loses none of 600 settles that it sends when many servers close idle connections, after 5 s', async () => {
    const bed = await start()
    const connections = await Promise.all(Array.from({ length: 300 }, () => bed.open()))
    const settle = async (socket: Socket) => {
      const paymentPayload = newPayload()
      const body = JSON.stringify({ x402Version: 2, paymentPayload, paymentRequirements: requirements() })
      const head = 'POST /settle HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n'
      socket.write(`${head}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
      const [answer = 'nothing'] = await Promise.race([once(socket, 'data'), once(socket, 'close')])
      return `${answer}`
    }
    await Promise.all(connections.map(settle))
    for (let round = 0; round < 2; round++) {
      const answers = connections.map(async (socket, index) => {
        // Each is met when it has been idle for another time around 5 s.
        await sleep(4_500 + (index * 2_000) / 300)
        return settle(socket)
      })
      for (const answer of answers) expect(await answer).toContain('"success":true')
    }
  })
})

describe('a request that two servers may read differently', () => {
  it.each([
    ['names more than one Host', ['GET /supported HTTP/1.1', 'host: shop.example', 'Host: localhost']],
    ['dot segments', ['GET /public/../supported HTTP/1.1', 'host: localhost']],
    ['dot segments', ['GET /public/%2E%2e/supported HTTP/1.1', 'host: localhost']],
    ['dot segments', ['GET /./supported?x=1 HTTP/1.1', 'host: localhost']],
    ['backslashes', ['GET /public\\..\\supported HTTP/1.1', 'host: localhost']],
    ['not a path', ['GET http://elsewhere.example/supported HTTP/1.1', 'host: localhost']],
  ])('is refused: %s', async (fault, lines) => {
    const bed = await start()
    const answer = await answerTo(bed, lines)
    expect(answer).toMatch(/^HTTP\/1\.1 400 /)
    expect(answer).toContain(fault)
    expect(bed.facilitator.calls.supported).toBe(0)
  })

  it('is refused without a Host', async () => {
    expect(await answerTo(await start(), ['GET /supported HTTP/1.1'])).toMatch(/^HTTP\/1\.1 400 /)
  })

  it('is not one that has dots in its names or in its query', async () => {
    const lines = ['GET /healthz?of=/../.well-known/...x HTTP/1.1', 'host: localhost', 'connection: close']
    expect(await answerTo(await start(), lines)).toMatch(/^HTTP\/1\.1 200 /)
  })
})

describe('a gateway that ends', () => {
  it('does not wait for clients that send slowly, send nothing, or do not read', async () => {
    const { facilitator, letGo } = slowFacilitator()
    facilitator.supportedAnswer = supporting(...long)
    const bed = await start({}, facilitator)
    await bed.open('POST /settle HTTP/1.1\r\nhost: localhost\r\n')
    await bed.open(halfAPayment)
    await bed.open()
    ;(await bed.open('GET /supported HTTP/1.1\r\nhost: localhost\r\n\r\n'.repeat(20))).pause()
    const settling = bed.settle()
    await settles(bed, 1)
    await vi.waitFor(() => expect(facilitator.calls.supported).toBeGreaterThan(0))
    const begunAt = performance.now()
    const ended = shutDown(bed.server, bed.aggregator, { log: message => bed.logged.push(message) })
    await vi.waitFor(async () => expect(await bed.connections()).toBe(1), { timeout: 9_000 })
    letGo()
    expect(await (await settling).json()).toMatchObject({ success: true })
    await ended
    expect(performance.now() - begunAt).toBeLessThan(9_000)
    expect(bed.logged).toEqual([])
  })
})

describe('a gateway with a certificate', () => {
  const ask = async ({ server }: Bed) => {
    const asked = httpsRequest(`${server.url}/supported`, { ca: certificate.cert, agent: false }).end()
    const [response] = await once(asked, 'response')
    return json(response)
  }
  const isIdle = (bed: Bed) => vi.waitFor(async () => expect(await bed.connections()).toBe(0))

  it('answers over TLS while clients that never agree on it hold every connection', async () => {
    const bed = await start({ tls: certificate, maxConnections: 5 })
    expect(bed.server.url).toMatch(/^https:/)
    for (let i = 0; i < 9; i++) await bed.open()
    expect(await ask(bed)).toMatchObject({ kinds: [{ scheme: 'exact' }] })
    expect(await bed.connections()).toBeLessThanOrEqual(5)
  })

  it('counts no connection that has ended', async () => {
    const bed = await start({ tls: certificate, maxConnections: 2 })
    for (let i = 0; i < 5; i++) {
      await ask(bed)
      await isIdle(bed)
    }
    expect(bed.logged).toEqual([])
  })

  it('is started by files, at the address that the environment gives, with failover switched on', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'x402-facilitator-aggregator-'))
    ends.push(() => rm(folder, { recursive: true }))
    const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')]
    await Promise.all([writeFile(cert, certificate.cert), writeFile(key, certificate.key)])
    const env = {
      HOST: '127.0.0.2',
      PORT: '0',
      FACILITATOR_1_URL: 'http://127.0.0.1:9',
      FACILITATOR_2_URL: 'http://127.0.0.1:9',
      FACILITATOR_HEALTH_CHECK: 'false',
    }
    const gateway = await startGatewayProcess(env, ['--tls-cert', cert, '--tls-key', key])
    ends.push(() => gateway.end('SIGKILL'))
    expect(gateway.url).toMatch(/^https:\/\/127\.0\.0\.2:\d+$/)
    expect(gateway.said()).toContain('facilitators: facilitator-1, facilitator-2')
    expect(await gateway.end('SIGTERM')).toBe(0)
  })

  it('is refused one that is none', async () => {
    await expect(start({ tls: { ...certificate, cert: 'nonsense' } })).rejects.toThrow('tls: ')
  })
})

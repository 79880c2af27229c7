/** Those who mean harm, in a process of their own: floods, slow clients and replays, all of it at fixed rates. */
import { connect, type Socket } from 'node:net'

export interface HostileTask {
  readonly url: string
  /** A caller's who has a token, and abuses it. */
  readonly token: string
  /** Requests a second of the flood. */
  readonly rate: number
  /** Clients that send, or read, as slowly as they are let. */
  readonly slow: number
}

const bodies = [
  '',
  '{',
  '['.repeat(20_000),
  JSON.stringify({ paymentPayload: { x402Version: 2, payload: {} }, paymentRequirements: {} }),
  'x'.repeat(300_000),
  JSON.stringify({ x: 'y'.repeat(200_000) }),
]

process.once('message', ({ url, token, rate, slow }: HostileTask) => {
  let sent = 0
  let inFlight = 0
  const counts = new Map<string, number>()
  const count = (name: string) => counts.set(name, (counts.get(name) ?? 0) + 1)
  const flood = async () => {
    if (inFlight > 500) {
      count('held back')
      return
    }
    inFlight++
    const index = sent++
    const headers: Record<string, string> = {
      'content-type': 'application/json',
      'idempotency-key': `hostile ${index}`,
    }
    if (index % 3 === 0) headers.authorization = `Bearer ${token}`
    if (index % 3 === 1) headers.authorization = `Bearer guess ${index}`
    const path = ['/verify', '/settle', '/supported', `/${index}`][index % 4]
    try {
      const isGet = index % 4 > 1
      const body = bodies[index % bodies.length] ?? ''
      const response = await fetch(`${url}${path}`, {
        method: isGet ? 'GET' : 'POST',
        headers,
        ...(!isGet && { body }),
      })
      await response.arrayBuffer()
      count(`${response.status}`)
    } catch {
      count('cut')
    } finally {
      inFlight--
    }
  }
  const perTick = rate / 50
  let due = 0
  const timer = setInterval(() => {
    for (due += perTick; due >= 1; due--) void flood()
  }, 20)

  const { port } = new URL(url)
  const slowOnes = new Set<Socket>()
  const openSlow = (index: number) => {
    const socket = connect(Number(port), '127.0.0.1')
    slowOnes.add(socket)
    socket.on('error', () => {})
    const head = 'POST /verify HTTP/1.1\r\nHost: a\r\n'
    const text =
      index % 3 === 0 ? head : `${head}Authorization: Bearer ${token}\r\nContent-Length: 200000\r\n\r\n`
    socket.write(text)
    // One that never reads asks for the longest answer there is, again and again.
    if (index % 3 === 2) {
      socket.pause()
      socket.write('x'.repeat(200_000))
    }
    const drip = setInterval(() => socket.write(index % 3 === 0 ? 'X: y\r\n' : ' '), 500)
    socket.on('close', () => {
      clearInterval(drip)
      slowOnes.delete(socket)
      count('slow client cut')
      if (process.connected) openSlow(index)
    })
  }
  for (let index = 0; index < slow; index++) openSlow(index)

  process.once('message', () => {
    clearInterval(timer)
    process.send?.([...counts])
    process.disconnect()
    for (const socket of slowOnes) socket.destroy()
    process.exit(0)
  })
})

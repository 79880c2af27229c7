import type { Place } from './bed.ts'

/** What a runtime gives to the cases. */
export interface Env {
  readonly place: Place
  /** Keeps the runtime alive for work beside a request. */
  readonly waitUntil: (work: Promise<unknown>) => void
  /** Sends a request to the gateways of `gateway.ts`, in a request context of its own where the runtime has such. */
  readonly visit: (path: string, init?: RequestInit) => Promise<Response>
}

export interface Case {
  readonly name: string
  /** @throws when the promise is not kept, saying what was expected */
  run(env: Env): Promise<void>
}

export interface Result {
  readonly name: string
  readonly durationMs: number
  /** Absent when the case went well. */
  readonly error?: string
}

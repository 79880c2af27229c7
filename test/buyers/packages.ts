/** Packages of this folder alone, which few who work on the library need: they are installed when the table is run. */
import { execFileSync } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { x402Client } from '@x402/core/client'
import type { x402ResourceServer } from '@x402/core/server'
import type { RequestHandler } from 'express'
import type { MiddlewareHandler } from 'hono'
import type { LoopbackFacilitatorConfig } from '../../src/node/index.ts'

export const here = fileURLToPath(new URL('.', import.meta.url))

/** A route of version 1. */
export interface RouteV1 {
  readonly price: {
    readonly amount: string
    readonly asset: {
      readonly address: string
      readonly decimals: number
      readonly eip712: { readonly name: string; readonly version: string }
    }
  }
  readonly network: 'base-sepolia'
  readonly config: { readonly resource: string }
}

type MiddlewareV1<M> = (
  payTo: string,
  routes: Readonly<Record<string, RouteV1>>,
  facilitator: LoopbackFacilitatorConfig,
) => M

type Handler = (request: Request) => Promise<Response>

interface AxiosReply {
  readonly status: number
}

export interface Axios {
  get(url: string, options: { signal?: AbortSignal | undefined }): Promise<AxiosReply>
}

/** What is used of each package, as the compiler does not see those that are not installed. */
interface Packages {
  'x402-express': { paymentMiddleware: MiddlewareV1<RequestHandler> }
  'x402-hono': { paymentMiddleware: MiddlewareV1<MiddlewareHandler> }
  'x402-fetch': { wrapFetchWithPayment(fetch: typeof globalThis.fetch, wallet: object): typeof fetch }
  '@x402/axios': { wrapAxiosWithPayment(axios: Axios, client: x402Client): Axios }
  '@x402/next': {
    withX402(handler: Handler, route: object, server: x402ResourceServer): Handler
  }
  axios: { default: { create(options: object): Axios } }
  'next/server.js': {
    NextRequest: new (url: string, init: { headers: Headers }) => Request
    NextResponse: { json(body: object): Response }
  }
}

export function load<P extends keyof Packages>(name: P): Promise<Packages[P]> {
  return import(name)
}

export function install(): void {
  const installed = `${here}node_modules/.package-lock.json`
  const lock = `${here}package-lock.json`
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(lock).mtimeMs) return
  console.error('installing the clients and servers of test/buyers (npm install)')
  // Not `npm ci`: a package of Next for another system may be missing in the registry, and so in the lock file.
  execFileSync('npm', ['install', '--no-save', '--silent', '--ignore-scripts', '--no-audit', '--no-fund'], {
    cwd: here,
    stdio: 'inherit',
  })
}

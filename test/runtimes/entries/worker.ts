/** The suite as a Worker: each case is a request of its own, and so is each visit to a gateway. */
import { endLoading } from '../load.ts'
import 'entry-points'
// @ts-expect-error The runtime has this module, and no package describes it.
import { waitUntil } from 'cloudflare:workers'
import type { Env } from '../case.ts'
import { openGateways } from '../gateway.ts'
import { place } from '../place.ts'
import { cases, runCase } from '../suite.ts'

interface Bindings {
  /** This Worker. */
  readonly SELF: { fetch: typeof fetch }
}

const usedByModules = endLoading()
const { gateways, usedByConstructors } = openGateways(place, waitUntil)

export default {
  async fetch(request: Request, { SELF }: Bindings): Promise<Response> {
    const { hostname, pathname } = new URL(request.url)
    if (hostname === 'gateway') return gateways.fetch(request)
    if (pathname === '/')
      return Response.json({ usedByModules, usedByConstructors, cases: cases.map(({ name }) => name) })
    const one = cases.find(({ name }) => pathname === `/${encodeURIComponent(name)}`)
    if (one === undefined) return new Response('there is no such case', { status: 404 })
    const visit: Env['visit'] = (path, init) => SELF.fetch(`http://gateway${path}`, init)
    return Response.json(await runCase(one, { place, waitUntil, visit }))
  },
}

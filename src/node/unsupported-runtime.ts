/** What `./node` is where there is no Node.js: each of its functions throws an error that names what to use instead. */

/** This entry point was used in a runtime that cannot listen on ports. */
export class UnsupportedRuntimeError extends Error {
  override readonly name = 'UnsupportedRuntimeError'

  constructor(what: string) {
    super(
      `${what} of x402-facilitator-aggregator/node needs Node.js, Bun or Deno. Here, mount createGateway() of ` +
        'x402-facilitator-aggregator/http as a route of the same app, and point the facilitator url of version 1 ' +
        'middleware at that route.',
    )
  }
}

const unsupported = (what: string) => (): never => {
  throw new UnsupportedRuntimeError(what)
}

export const createFacilitatorConfig = unsupported('createFacilitatorConfig')
export const listen = unsupported('listen')
export const shutDown = unsupported('shutDown')
export const shutDownOnSignals = unsupported('shutDownOnSignals')
export class InvalidListenError extends Error {}

/** For Node.js: a listener for the gateway, a facilitator config for version 1 middleware, and a graceful end. */
export {
  createFacilitatorConfig,
  type FacilitatorConfigOptions,
  type LoopbackFacilitatorConfig,
} from './facilitator-config.ts'
export { type GatewayServer, InvalidListenError, type ListenOptions, listen } from './listen.ts'
export { type ShutdownOptions, shutDown, shutDownOnSignals } from './shutdown.ts'

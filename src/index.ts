export {
  type AggregatorConfig,
  FacilitatorAggregator,
  type HealthStatus,
  type ReinitializableServer,
} from './aggregator.ts'
export {
  AggregatorError,
  type AggregatorErrorCode,
  AggregatorStoppedError,
  AllFacilitatorsFailedError,
  InvalidOptionsError,
  InvalidPaymentError,
  LedgerError,
  LedgerFullError,
  SettlementIndeterminateError,
  SettlementInProgressError,
} from './errors.ts'
export type { AggregatorEvents, EventName, Listener } from './events.ts'
export type {
  CallOptions,
  DiscoveryQuery,
  DiscoveryResponse,
  FacilitatorClientLike,
  SupportedAnswer,
} from './facilitator/client.ts'
export type { AuthHeaders } from './facilitator/http-client.ts'
export type { AttemptReport, Operation, OutcomeKind } from './observe/attempt-report.ts'
export type { LogEntry, Logger, LogLevel } from './observe/log.ts'
export type { FacilitatorStatistics, Performance } from './observe/statistics.ts'
export type {
  AggregatorOptions,
  FacilitatorByClient,
  FacilitatorByUrl,
  FacilitatorOptions,
  HealthCheckOptions,
  PerOperation,
  SettlementOptions,
} from './options/options.ts'
export type { AnyPaymentPayload, AnyPaymentRequirements } from './payment/payment.ts'
export type { SettlementQuery } from './payment/payment-key.ts'
export type { CircuitChange, CircuitName } from './pool/circuit.ts'
export type { FacilitatorHealth, LaneHealth, PoolHealth, Statistics } from './pool/status.ts'
export type { Candidate, Strategy } from './pool/strategy.ts'
export type { SettlementSummary, UnresolvedSettlement } from './settlement/events.ts'
export type {
  Claim,
  ClaimRequest,
  LedgerEntry,
  LedgerFilter,
  LedgerPage,
  LedgerUpdate,
  LedgerUsage,
  SettlementLedger,
  SettlementState,
} from './settlement/ledger.ts'
export { MemoryLedger, type MemoryLedgerOptions } from './settlement/memory-ledger.ts'
export type { ChainReader, DryRun, SettlementProbe, SignedPayment } from './settlement/probe.ts'
export type { ProbeAnswer } from './settlement/probe-answer.ts'

/** Makes a ledger of a store that replicas of a seller share. */
export { type LedgerStore, sharedLedger } from '../ledgers/shared-ledger.ts'
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
} from '../settlement/ledger.ts'

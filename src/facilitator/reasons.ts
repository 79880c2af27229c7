/** The vocabulary of facilitators: what each reason in an answer means. One table, read top to bottom. */

/** What a reason tells about the payment or about the facilitator that gave it. */
export type ReasonMeaning =
  /** Final: a property of the payment, or of the parties. */
  | 'verdict'
  /** This facilitator cannot do it; another one may. */
  | 'ability'
  /** This facilitator's own fault, by its word nothing was broadcast. */
  | 'trouble'
  /** By this facilitator's word the payment would fail, for want of what it does not say: its fault or the payment's. */
  | 'simulation'
  /** Its transaction was reverted, it says: by the buyer's doing perhaps, or because another one has paid. */
  | 'reverted'
  /** The payment may be on its way. */
  | 'maybe-broadcast'
  /** The payment is on its way. */
  | 'pending'
  /** The authorization was used before. */
  | 'spent'

/** Compliance comes first: no laxer facilitator may be asked, whatever else the reason contains. */
export const screenedOut =
  /(?<![a-z0-9])(ky[ct]|ofac)(?![a-z0-9])|sanction|blocked_?address|address_?blocked|(deny|black|block).?list|screened|compliance/

/**
 * What a chain's node says when it refuses a transaction before it is broadcast, for want of gas money or of an
 * estimate, as facilitators pass it on under the reasons of failed transactions and of malformed payments.
 */
const outOfGas = /insufficient funds for gas|exceeds the balance of the account|unable to estimate gas/i

/** In a reason it counts at once, in the free text beside it only where the reason says nothing. */
const saysSpent = /authorization( is |_)(used|cancell?ed)/i

/** Characters of a reason, and of the text beside it, that are read. */
const longestRead = 1_000

/** The first row that matches counts. */
const vocabulary: readonly (readonly [ReasonMeaning, ...RegExp[]])[] = [
  ['pending', /^settlement_pending$/],
  [
    'spent',
    /^(permit2_invalid_nonce|duplicate_settlement|invalid_upto_svm_channel_already_open)$/,
    saysSpent,
    /nonce_already_used$|_nothing_to_settle$/,
  ],
  ['reverted', /^invalid_transaction_state$|(^|_)transaction_failed$/],
  [
    'maybe-broadcast',
    /^(unexpected_settle_error|post_settlement_transfer_not_confirmed|erc20_approval_tx_failed)$/,
    /_transfer_event_mismatch$|confirmation_timed_out$/,
    // Raw messages of a facilitator's own chain client, given after it had sent the transaction.
    /timed out|waiting for transaction|already known|0x[0-9a-f]{64}\b/,
  ],
  [
    'ability',
    /(^|_)unsupported_|^invalid_(scheme|network|x402_version)$|_evm_(scheme|payload_type)$/,
    /(^|_)(facilitator|fee_payer|network|authorizer_address)_mismatch$/,
    /^upto_unauthorized_facilitator$|fee_payer_not_managed_by_facilitator$/,
    /_(program|factory)_not_allowed$|_eip3009_not_supported$/,
    /_(fee|price_instruction|units)_too_high$/,
    /_not_configured$|_erc20_approval_unavailable$|_undeployed_smart_wallet$|^permit2_proxy_not_deployed$/,
  ],
  [
    'trouble',
    /^(unexpected_verify_error|unexpected_error|internal_error|rpc_error|rate_limited)$/,
    // Seen with an empty gas wallet (HTTP 200, `success: false`), and for a day at a public facilitator whose /verify
    // and /supported were fine.
    /^(failed_to_execute_transfer|batch_send_failed)$/,
    /smart_wallet_deployment_failed$|_broadcast_failed$|_rpc_read_failed$|_state_unavailable$|_channel_busy$|_resolution_/,
  ],
  ['simulation', /(^|_)simulation(_failed)?$/],
  [
    'verdict',
    /^(payment_expired|insufficient_funds|asset_not_deployed_contract|invalid_payload|invalid_payment_requirements)$/,
    /_(recipient|value|amount|token_name|token_version|echo)_mismatch$|_signature(_address)?$/,
    /_authorization_(value|typed_data)|_valid_(after|before)|_exceeds_(amount|permitted)$|_block_height_exceeded$/,
    /_insufficient_balance$|_missing_eip712_domain$/,
    /^(invalid_)?(permit2|eip2612|erc20_approval)_|^invalid_(\w+_svm|siwx|batch_settlement_evm)_/,
  ],
]

/**
 * The meaning of a reason, or `undefined` for one that nobody has listed.
 *
 * @param reason the answer's `invalidReason` or `errorReason`; what follows `": "` is the facilitator's comment, which
 * counts only where the name before it is not listed
 * @param message the answer's free text, which counts only where it tells of a want of gas or a used authorization
 */
export function meaningOf(reason: string, message = ''): ReasonMeaning | undefined {
  const text = reason.slice(0, longestRead).toLowerCase()
  const comment = message.slice(0, longestRead)
  if (screenedOut.test(text)) return 'verdict'
  if (outOfGas.test(`${text} ${comment}`)) return 'trouble'
  return (
    listed(text.split(':', 1)[0]?.trim() ?? '') ??
    listed(text) ??
    (saysSpent.test(comment) ? 'spent' : undefined)
  )
}

function listed(text: string): ReasonMeaning | undefined {
  return vocabulary.find(([, ...families]) => families.some(family => family.test(text)))?.[0]
}

const explainedByPayment =
  /insufficient_(funds|balance)|allowance|simulation|expired|valid_before|block_height/

/** Whether a facilitator that is asked about a payment that has moved may give this reason. */
export function isExplainedByPayment(reason = ''): boolean {
  return explainedByPayment.test(reason.toLowerCase())
}

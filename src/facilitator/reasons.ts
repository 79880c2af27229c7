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
  /** The payment may be on its way. */
  | 'maybe-broadcast'
  /** The payment is on its way. */
  | 'pending'
  /** The authorization was used before. */
  | 'spent'

/** Compliance comes first: no laxer facilitator may be asked, whatever else the reason contains. */
const screenedOut =
  /(?<![a-z0-9])kyt(?![a-z0-9])|sanction|blocked_?address|address_?blocked|deny_?list|blacklist|screened|compliance/

/**
 * What a chain's node says when it refuses a transaction for want of gas money, as upstream's facilitator passes
 * it on under the reason of a failed transaction. Nothing was broadcast then.
 */
const outOfGas = /insufficient funds for gas|exceeds the balance of the account/i

/** In a reason it counts at once, in the free text beside it only where the reason says nothing. */
const saysSpent = /authorization( is |_)(used|cancell?ed)/i

/** A name counts before a family, whatever their rows; of the families the first that matches. */
const vocabulary: readonly {
  readonly meaning: ReasonMeaning
  readonly names: readonly string[]
  readonly families: readonly RegExp[]
}[] = [
  { meaning: 'pending', names: ['settlement_pending'], families: [] },
  {
    meaning: 'spent',
    names: ['permit2_invalid_nonce', 'duplicate_settlement', 'invalid_upto_svm_channel_already_open'],
    families: [saysSpent, /nonce_already_used$/],
  },
  {
    meaning: 'maybe-broadcast',
    names: [
      'unexpected_settle_error',
      'settle_exact_svm_transaction_confirmation_timed_out',
      'invalid_transaction_state',
      'transaction_failed',
      'post_settlement_transfer_not_confirmed',
    ],
    families: [
      /_transaction_failed$/,
      /_transfer_event_mismatch$/,
      /confirmation_timed_out$/,
      // Raw messages of a facilitator's own chain client, given after it had sent the transaction.
      /timed out|waiting for transaction|already known|0x[0-9a-f]{64}/,
    ],
  },
  {
    meaning: 'ability',
    names: [
      'unsupported_scheme',
      'invalid_scheme',
      'invalid_exact_svm_unsupported_scheme',
      'invalid_network',
      'network_mismatch',
      'invalid_x402_version',
      'unsupported_payload_type',
      'unsupported_payment_flow',
      'unsupported_asset_transfer_method',
      'facilitator_mismatch',
      'upto_unauthorized_facilitator',
      'eip6492_factory_not_allowed',
      'invalid_exact_evm_payload_undeployed_smart_wallet',
    ],
    families: [
      /fee_payer_not_managed_by_facilitator$/,
      /_(facilitator|fee_payer|network)_mismatch$/,
      /_evm_scheme$/,
      /_eip3009_not_supported$/,
      /_(program|factory)_not_allowed$/,
      /_priority_fee_too_high$/,
      /_compute_price_instruction_too_high$/,
      /_not_configured$/,
      /_erc20_approval_unavailable$/,
    ],
  },
  {
    meaning: 'trouble',
    names: [
      'unexpected_verify_error',
      // Seen with an empty gas wallet: HTTP 200, `success: false`.
      'failed_to_execute_transfer',
      // Seen for a day at a public facilitator whose /verify and /supported were fine.
      'batch_send_failed',
      'smart_wallet_deployment_failed',
      'erc20_approval_broadcast_failed',
    ],
    families: [
      /_rpc_read_failed$/,
      /_verification_state_unavailable$/,
      /_smart_wallet_deployment_failed$/,
      /_channel_busy$/,
    ],
  },
  { meaning: 'simulation', names: [], families: [/(^|_)simulation_failed$/] },
  {
    meaning: 'verdict',
    names: [
      'invalid_exact_evm_signature',
      'invalid_exact_evm_payload_signature',
      'invalid_exact_evm_payload_signature_address',
      'invalid_exact_evm_payload_authorization_typed_data_message',
      'invalid_exact_evm_failed_to_parse_signature',
      'payment_expired',
      'permit2_deadline_expired',
      'permit2_not_yet_valid',
      'permit2_payment_too_early',
      'insufficient_funds',
      'permit2_allowance_required',
      'permit2_invalid_amount',
      'permit2_invalid_destination',
      'permit2_invalid_owner',
      'permit2_token_mismatch',
      'asset_not_deployed_contract',
      'upto_amount_exceeds_permitted',
      'invalid_payload',
      'invalid_payment_requirements',
      'extension_echo_mismatch',
      'settle_exact_svm_block_height_exceeded',
    ],
    families: [
      /_(recipient|value|amount|token_name|token_version)_mismatch$/,
      /_authorization_value/,
      /_valid_(after|before)/,
      /_insufficient_balance$/,
      /_missing_eip712_domain$/,
      /_exceeds_amount$/,
      /^invalid_permit2_/,
      /^(invalid_)?eip2612_/,
      /^(invalid_)?erc20_approval_/,
      /^invalid_exact_svm_payload_/,
    ],
  },
]

/**
 * The meaning of a reason, or `undefined` for one that nobody has listed.
 *
 * @param reason the answer's `invalidReason` or `errorReason`; what follows `": "` is the facilitator's comment
 * @param message the answer's free text, which counts only where it tells of an empty gas wallet or a used
 * authorization
 */
export function meaningOf(reason: string, message = ''): ReasonMeaning | undefined {
  const text = reason.toLowerCase()
  if (screenedOut.test(text)) return 'verdict'
  if (outOfGas.test(message)) return 'trouble'
  const name = text.split(':', 1)[0]?.trim() ?? ''
  const row =
    vocabulary.find(({ names }) => names.includes(name)) ??
    vocabulary.find(({ families }) => families.some(family => family.test(name) || family.test(text)))
  return row?.meaning ?? (saysSpent.test(message) ? 'spent' : undefined)
}

const explainedByPayment =
  /insufficient_(funds|balance)|allowance|simulation|expired|valid_before|block_height/

/** Whether a facilitator that is asked about a payment that has moved may give this reason. */
export function isExplainedByPayment(reason = ''): boolean {
  return explainedByPayment.test(reason.toLowerCase())
}

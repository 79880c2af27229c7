import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { meaningOf, type ReasonMeaning } from '../../src/facilitator/reasons.ts'

/** What each reason that upstream's packages can give means to us; `*` stands for `invalid_batch_settlement_evm`, `#` for `invalid_exact_svm`. */
const expected: Partial<Record<ReasonMeaning, string>> = {
  pending: 'settlement_pending',
  spent:
    'invalid_exact_evm_nonce_already_used permit2_invalid_nonce duplicate_settlement *_nothing_to_settle',
  reverted: `
    invalid_transaction_state invalid_exact_evm_transaction_failed invalid_upto_evm_transaction_failed
    *_claim_transaction_failed *_deposit_transaction_failed *_refund_transaction_failed *_settle_transaction_failed
    #_transaction_failed transaction_failed`,
  'maybe-broadcast':
    'invalid_exact_evm_transfer_event_mismatch erc20_approval_tx_failed post_settlement_transfer_not_confirmed',
  ability: `
    eip6492_factory_not_allowed invalid_exact_evm_eip3009_not_supported invalid_exact_evm_network_mismatch
    invalid_exact_evm_scheme invalid_upto_evm_network_mismatch invalid_upto_evm_scheme unsupported_payload_type
    upto_facilitator_mismatch upto_unauthorized_facilitator permit2_proxy_not_deployed *_authorizer_not_configured
    *_authorizer_address_mismatch *_eip6492_factory_not_allowed *_erc20_approval_unavailable *_network_mismatch
    *_scheme *_payload_type
    fee_payer_not_managed_by_facilitator network_mismatch unsupported_scheme #_fee_payer_mismatch
    #_fee_payer_not_managed_by_facilitator #_network_mismatch #_unsupported_scheme
    #_payload_transaction_instructions_compute_price_instruction_too_high #_smart_wallet_compute_units_too_high
    #_smart_wallet_priority_fee_too_high #_smart_wallet_program_not_allowed
    #_smart_wallet_unsupported_compute_budget_instruction`,
  trouble: `
    erc20_approval_broadcast_failed smart_wallet_deployment_failed *_channel_busy *_rpc_read_failed
    *_smart_wallet_deployment_failed *_verification_state_unavailable
    #_smart_wallet_alt_resolution_failed #_smart_wallet_alt_resolution_not_available`,
  simulation: `
    invalid_exact_evm_transaction_simulation_failed permit2_simulation_failed *_claim_simulation_failed
    *_deposit_simulation_failed *_refund_simulation_failed *_settle_simulation_failed
    #_smart_wallet_no_transfer_in_simulation #_smart_wallet_simulation_failed #_transaction_simulation_failed
    invalid_upto_svm_settlement_simulation transaction_simulation_failed`,
  verdict: `
    asset_not_deployed_contract eip2612_asset_mismatch eip2612_deadline_expired eip2612_from_mismatch
    eip2612_spender_not_permit2 erc20_approval_asset_mismatch erc20_approval_from_mismatch
    erc20_approval_spender_not_permit2 erc20_approval_tx_invalid_calldata erc20_approval_tx_invalid_signature
    erc20_approval_tx_parse_failed erc20_approval_tx_signer_mismatch erc20_approval_tx_wrong_selector
    erc20_approval_tx_wrong_spender erc20_approval_tx_wrong_target extension_echo_mismatch
    invalid_eip2612_extension_format invalid_erc20_approval_extension_format invalid_exact_evm_authorization_value
    invalid_exact_evm_failed_to_parse_signature invalid_exact_evm_insufficient_balance
    invalid_exact_evm_missing_eip712_domain invalid_exact_evm_payload_authorization_valid_after
    invalid_exact_evm_payload_authorization_valid_before invalid_exact_evm_payload_authorization_value_mismatch
    invalid_exact_evm_recipient_mismatch invalid_exact_evm_signature invalid_exact_evm_token_name_mismatch
    invalid_exact_evm_token_version_mismatch invalid_permit2_recipient_mismatch invalid_permit2_signature
    invalid_permit2_spender invalid_upto_evm_payload_settlement_exceeds_amount permit2_2612_amount_mismatch
    permit2_allowance_required permit2_amount_mismatch permit2_deadline_expired permit2_insufficient_balance
    permit2_invalid_amount permit2_invalid_destination permit2_invalid_owner permit2_not_yet_valid
    permit2_payment_too_early permit2_token_mismatch upto_amount_exceeds_permitted
    invalid_siwx_domain_mismatch invalid_siwx_expiration_time invalid_siwx_expired invalid_siwx_issued_at
    invalid_siwx_issued_at_in_future invalid_siwx_issued_at_too_old invalid_siwx_nonce invalid_siwx_not_before
    invalid_siwx_not_yet_valid invalid_siwx_uri_mismatch
    *_channel_id_invalid *_channel_id_mismatch *_channel_not_found *_charge_exceeds_signed_cumulative
    *_cumulative_amount_mismatch *_cumulative_below_claimed *_cumulative_exceeds_balance
    *_deposit_below_min_deposit *_eip2612_amount_mismatch *_erc3009_authorization_required
    *_insufficient_balance *_missing_channel *_missing_eip712_domain *_payload_authorization_valid_after
    *_payload_authorization_valid_before *_permit2_allowance_required *_permit2_amount_mismatch
    *_permit2_authorization_required *_permit2_deadline_expired *_permit2_invalid_signature
    *_permit2_invalid_spender *_receive_authorization_signature *_receiver_authorizer_mismatch
    *_receiver_mismatch *_refund_amount_invalid *_refund_no_balance *_refund_payload *_token_mismatch
    *_voucher_signature *_withdraw_delay_mismatch *_withdraw_delay_out_of_range
    invalid_upto_svm_channel_state invalid_upto_svm_payment_requirements
    #_payload_amount_mismatch #_payload_excessive_signers #_payload_memo_count #_payload_memo_mismatch
    #_payload_mint_mismatch #_payload_missing_fee_payer #_payload_no_transfer_instruction
    #_payload_recipient_mismatch #_payload_signature_invalid #_payload_transaction
    #_payload_transaction_could_not_be_decoded #_payload_transaction_fee_payer_transferring_funds
    #_payload_transaction_instructions_compute_limit_instruction
    #_payload_transaction_instructions_compute_limit_instruction_too_high
    #_payload_transaction_instructions_compute_price_instruction
    #_payload_transaction_instructions_length #_payload_unknown_fifth_instruction
    #_payload_unknown_fourth_instruction #_payload_unknown_optional_instruction
    #_payload_unknown_seventh_instruction #_payload_unknown_sixth_instruction
    #_smart_wallet_cannot_derive_destination_ata #_smart_wallet_compute_budget_violation
    #_smart_wallet_fee_payer_not_isolated #_smart_wallet_malformed_compute_budget
    #_smart_wallet_malformed_compute_limit #_smart_wallet_malformed_compute_price
    #_smart_wallet_multiple_matching_transfers #_smart_wallet_transfer_mismatch #_verification_failed`,
}

const meanings = Object.entries(expected).flatMap(([meaning, reasons]) =>
  reasons
    .trim()
    .split(/\s+/)
    .map(
      reason =>
        [
          reason.replace('*', 'invalid_batch_settlement_evm').replace('#', 'invalid_exact_svm'),
          meaning,
        ] as const,
    ),
)

/** Every reason that the installed packages name: as a constant, or in an answer. */
function upstreamReasons(): string[] {
  const installed = join(import.meta.dirname, '../../node_modules/@x402')
  const code = readdirSync(installed, { recursive: true, encoding: 'utf8' })
    .filter(path => path.includes('esm') && path.endsWith('.mjs'))
    .map(path => readFileSync(join(installed, path), 'utf8'))
    .join('\n')
  const named = code.matchAll(/(?:\bErr[A-Z]\w* =|\b(?:invalidReason|errorReason):) "(\w+)"/g)
  return [...new Set([...named].map(([, reason]) => reason ?? ''))].sort()
}

describe('the vocabulary', () => {
  it('gives a meaning to every reason of the installed upstream packages', () => {
    expect(upstreamReasons()).toEqual(meanings.map(([reason]) => reason).sort())
  })

  it.each(meanings)('%s means %s', (reason, meaning) => {
    expect(meaningOf(reason)).toBe(meaning)
  })
})

import { FacilitatorTimeoutError } from '@x402/core/server'
import { SettleError, VerifyError } from '@x402/core/types'
import { describe, expect, it } from 'vitest'
import { classifyError, classifyResponse } from '../../src/facilitator/classify.ts'
import type { Outcome } from '../../src/facilitator/outcome.ts'
import { network, payer, refusal, refused, settled, signature, valid } from './builders.ts'

const hash = `0x${'ef'.repeat(32)}`

/** `declined (trouble)`, `answered`, … */
function short(outcome: Outcome): string {
  return outcome.kind === 'declined' ? `declined (${outcome.cause})` : outcome.kind
}
const verify = (invalidReason: string, invalidMessage?: string) =>
  short(classifyResponse('verify', { isValid: false, invalidReason, invalidMessage }))
const settle = (errorReason: string, transaction = '') =>
  short(classifyResponse('settle', refusal(errorReason, transaction)))

describe('a reason about the payment is a verdict, whoever gives it', () => {
  it.each([
    'invalid_exact_evm_signature',
    'invalid_exact_evm_payload_signature',
    'invalid_exact_evm_payload_signature_address',
    'invalid_exact_evm_payload_authorization_typed_data_message',
    'invalid_exact_evm_failed_to_parse_signature',
    'invalid_exact_evm_recipient_mismatch',
    'invalid_exact_evm_authorization_value',
    'invalid_exact_evm_payload_authorization_value_mismatch',
    'permit2_amount_mismatch',
    'invalid_exact_evm_payload_authorization_valid_after',
    'invalid_exact_evm_payload_authorization_valid_before',
    'payment_expired',
    'permit2_deadline_expired',
    'permit2_not_yet_valid',
    'permit2_payment_too_early',
    'insufficient_funds',
    'invalid_exact_evm_insufficient_balance',
    'permit2_allowance_required',
    'permit2_invalid_amount',
    'permit2_invalid_destination',
    'permit2_invalid_owner',
    'permit2_token_mismatch',
    'invalid_permit2_signature',
    'invalid_exact_evm_token_name_mismatch',
    'invalid_exact_evm_token_version_mismatch',
    'invalid_exact_evm_missing_eip712_domain',
    'asset_not_deployed_contract',
    'eip2612_deadline_expired',
    'invalid_eip2612_extension_format',
    'erc20_approval_tx_wrong_spender',
    'invalid_exact_svm_payload_amount_mismatch',
    'invalid_exact_svm_payload_transaction_instructions_length',
    'invalid_upto_svm_payload_settlement_exceeds_amount',
    'upto_amount_exceeds_permitted',
    'invalid_payload',
    'invalid_payment_requirements',
    'extension_echo_mismatch',
    'settle_exact_svm_block_height_exceeded',
  ])('%s', reason => {
    expect(verify(reason)).toBe('answered')
    expect(settle(reason)).toBe('answered')
  })

  it('letters of a signature are no compliance reason', () => {
    const signature =
      '5h6xBEauJ3PK6SWCZ1PGjBvj8vDdWG3KpwATGy1ARAXFSDwt8GFKyTBD2cEn3v6yNrvGL9MrVyXdUqLQp7wEvd1M'
    expect(
      settle(`Transaction was not confirmed in 30.00 seconds: timed out. Check signature ${signature}`),
    ).toBe('unknown')
  })

  it.each([
    'invalid_exact_evm_payload_authorization_from_address_kyt',
    'invalid_exact_evm_payload_authorization_to_address_kyt',
    'payer_on_sanctions_list',
    'KYT: payer refused',
    'blocked_address',
    'party_screened_out_simulation_failed',
    'kyc_required',
    'OFAC match',
    'payer on deny list',
    'blocklist_hit',
  ])('compliance before all: %s', reason => {
    expect(verify(reason)).toBe('answered')
    expect(settle(reason)).toBe('answered')
  })
})

describe('a reason about abilities asks the next facilitator', () => {
  it.each([
    'unsupported_scheme',
    'invalid_scheme',
    'invalid_exact_svm_unsupported_scheme',
    'invalid_exact_evm_scheme',
    'invalid_network',
    'network_mismatch',
    'invalid_exact_evm_network_mismatch',
    'invalid_x402_version',
    'unsupported_payload_type',
    'unsupported_payment_flow',
    'unsupported_asset_transfer_method',
    'invalid_exact_evm_eip3009_not_supported',
    'fee_payer_not_managed_by_facilitator',
    'invalid_exact_svm_fee_payer_not_managed_by_facilitator',
    'facilitator_mismatch',
    'upto_facilitator_mismatch',
    'upto_unauthorized_facilitator',
    'invalid_exact_svm_fee_payer_mismatch',
    'eip6492_factory_not_allowed',
    'invalid_exact_svm_smart_wallet_program_not_allowed',
    'invalid_exact_svm_smart_wallet_priority_fee_too_high',
    'invalid_exact_svm_payload_transaction_instructions_compute_price_instruction_too_high',
    'invalid_upto_svm_authorizer_not_configured',
    'invalid_batch_settlement_evm_erc20_approval_unavailable',
    'invalid_exact_evm_payload_undeployed_smart_wallet',
    'unsupported_chain',
    'unsupported_network',
    'permit2_proxy_not_deployed',
  ])('%s', reason => {
    expect(verify(reason)).toBe('declined (ability)')
    expect(settle(reason)).toBe('declined (ability)')
  })
})

describe("a reason about the facilitator's troubles asks the next one", () => {
  it.each([
    'unexpected_verify_error',
    'invalid_batch_settlement_evm_rpc_read_failed',
    'invalid_batch_settlement_evm_verification_state_unavailable',
    'failed_to_execute_transfer',
    'batch_send_failed',
    'smart_wallet_deployment_failed',
    'erc20_approval_broadcast_failed',
    'invalid_batch_settlement_evm_channel_busy',
  ])('%s', reason => {
    expect(verify(reason)).toBe('declined (trouble)')
    expect(settle(reason)).toBe('declined (trouble)')
  })

  it('so does a failed simulation, whose fault nobody knows', () => {
    expect(verify('invalid_exact_evm_transaction_simulation_failed')).toBe('declined (simulation)')
    expect(settle('permit2_simulation_failed')).toBe('declined (simulation)')
  })

  it('an empty gas wallet too, which upstream calls a failed transaction', () => {
    const answer = {
      ...refusal('invalid_exact_evm_transaction_failed'),
      errorMessage: 'The total cost of executing this transaction exceeds the balance of the account.',
    }
    expect(short(classifyResponse('settle', answer))).toBe('declined (trouble)')
    expect(short(classifyResponse('settle', { ...answer, transaction: hash }))).toBe('unknown')
  })

  it('a refusal for want of a gas estimate, whatever the reason beside it', () => {
    const answer = {
      ...refusal('invalid_payload'),
      errorMessage: 'Transaction failed: Unable to estimate gas',
    }
    expect(short(classifyResponse('settle', answer, 400))).toBe('declined (trouble)')
    expect(verify('unable to estimate gas')).toBe('declined (trouble)')
  })

  it.each(['unexpected_error', 'internal_error', 'rpc_error', 'rate_limited'])('%s', reason => {
    expect(verify(reason)).toBe('declined (trouble)')
    expect(settle(reason)).toBe('declined (trouble)')
  })

  it('what a settle would leave unknown is no verdict on verify', () => {
    expect(verify('unexpected_settle_error')).toBe('declined (trouble)')
    expect(verify('settlement_pending')).toBe('declined (trouble)')
    expect(verify('invalid_exact_evm_transaction_failed')).toBe('declined (simulation)')
    expect(verify('transaction_simulation')).toBe('declined (simulation)')
  })

  it("but a buyer's signature that is quoted in a reason is not taken for a transaction", () => {
    expect(verify(`bad signature ${signature}`)).toBe('answered')
    expect(verify(`bad signature ${hash}`)).toBe('declined (trouble)')
  })

  it('but not when it names the transaction that it says it has not sent', () => {
    expect(settle('failed_to_execute_transfer', hash)).toBe('unknown')
  })
})

describe('what may have been broadcast is unknown', () => {
  it.each([
    'unexpected_settle_error',
    'settle_exact_svm_transaction_confirmation_timed_out',
    'invalid_transaction_state',
    'transaction_failed',
    'invalid_exact_evm_transaction_failed',
    'invalid_exact_evm_transaction_failed: execution reverted',
    'invalid_exact_evm_transfer_event_mismatch',
    'post_settlement_transfer_not_confirmed',
    `Timed out while waiting for transaction with hash "${hash}" to be confirmed.`,
  ])('%s', reason => {
    expect(settle(reason)).toBe('unknown')
    expect(settle(reason, hash)).toBe('unknown')
  })

  it("a reverted transaction of the facilitator's own is distinguished from the rest", () => {
    expect(classifyResponse('settle', refusal('invalid_exact_evm_transaction_failed', hash))).toMatchObject({
      kind: 'unknown',
      isReverted: true,
      transaction: hash,
    })
    expect(classifyResponse('settle', refusal('unexpected_settle_error', hash))).toMatchObject({
      kind: 'unknown',
      isReverted: false,
    })
  })

  it('a reason that nobody has listed, with a hash', () => {
    expect(settle('gremlins', hash)).toBe('unknown')
  })
})

describe('pending and spent', () => {
  it('settlement_pending with a hash is pending, without one unknown', () => {
    expect(classifyResponse('settle', refusal('settlement_pending', hash))).toMatchObject({
      kind: 'pending',
      transaction: hash,
    })
    expect(settle('settlement_pending')).toBe('unknown')
  })

  it.each([
    'invalid_exact_evm_nonce_already_used',
    'permit2_invalid_nonce',
    'duplicate_settlement',
    'nonce_already_used',
    'invalid_upto_svm_channel_already_open',
    'FiatTokenV2: authorization is used or canceled',
  ])('%s is spent', reason => {
    expect(verify(reason)).toBe('spent')
    expect(settle(reason)).toBe('spent')
  })

  it('a message may say it, where the reason does not', () => {
    expect(verify('some_new_reason', 'execution reverted: authorization is used or canceled')).toBe('spent')
  })
})

describe('a reason that nobody has listed', () => {
  it('is a verdict on verify, and trouble without a broadcast on settle', () => {
    expect(verify('gremlins')).toBe('answered')
    expect(settle('gremlins')).toBe('declined (trouble)')
  })

  it('says less than a telling status', () => {
    const answer = { isValid: false, invalidReason: 'gremlins' }
    expect(short(classifyResponse('verify', answer, 500))).toBe('unknown')
    expect(short(classifyResponse('settle', refusal('gremlins'), 500))).toBe('unknown')
    expect(short(classifyResponse('settle', refusal('gremlins'), 401))).toBe('declined (credentials)')
    expect(short(classifyResponse('settle', refusal('gremlins'), 400))).toBe('declined (trouble)')
  })
})

describe('answers', () => {
  it('a valid payment and a settlement are answered', () => {
    expect(classifyResponse('verify', valid)).toEqual({ kind: 'answered', response: valid })
    expect(classifyResponse('settle', settled)).toEqual({ kind: 'answered', response: settled })
  })

  it.each([undefined, null, 'ok', {}, { isValid: 'yes' }, { success: true }, { success: 1 }])(
    '%j is no answer',
    answer => {
      expect(short(classifyResponse('verify', answer))).toBe('unknown')
      expect(short(classifyResponse('settle', answer))).toBe('unknown')
    },
  )

  it('a success under an error status is not believed', () => {
    expect(short(classifyResponse('settle', settled, 502))).toBe('unknown')
    expect(short(classifyResponse('verify', valid, 500))).toBe('unknown')
  })
})

describe('what client objects throw', () => {
  const error = (operation: 'verify' | 'settle', thrown: unknown) => short(classifyError(operation, thrown))

  it("upstream's VerifyError and SettleError count by their reason", () => {
    expect(
      error('verify', new VerifyError(400, { isValid: false, invalidReason: 'insufficient_funds' })),
    ).toBe('answered')
    expect(error('settle', new SettleError(400, refusal('insufficient_funds')))).toBe('answered')
    expect(error('settle', new SettleError(400, refusal('settlement_pending', hash)))).toBe('pending')
    expect(error('settle', new SettleError(500, refusal('gremlins')))).toBe('unknown')
  })

  it.each([
    [303, 'unknown', 'unknown'],
    [400, 'declined (request)', 'unknown'],
    [409, 'declined (request)', 'unknown'],
    [413, 'declined (request)', 'declined (request)'],
    [414, 'declined (request)', 'declined (request)'],
    [431, 'declined (request)', 'declined (request)'],
    [415, 'declined (request)', 'declined (request)'],
    [422, 'declined (request)', 'unknown'],
    [401, 'declined (credentials)', 'declined (credentials)'],
    [403, 'declined (credentials)', 'declined (credentials)'],
    [402, 'declined (quota)', 'unknown'],
    [404, 'declined (address)', 'declined (address)'],
    [405, 'declined (address)', 'declined (address)'],
    [410, 'declined (address)', 'declined (address)'],
    [408, 'declined (trouble)', 'unknown'],
    [425, 'declined (trouble)', 'unknown'],
    [429, 'declined (rate-limit)', 'declined (rate-limit)'],
    [500, 'unknown', 'unknown'],
    [502, 'unknown', 'unknown'],
    [503, 'unknown', 'unknown'],
    [504, 'unknown', 'unknown'],
    [418, 'unknown', 'unknown'],
  ])('status %i, which upstream names in its message only', (status, onVerify, onSettle) => {
    expect(error('verify', new Error(`Facilitator verify failed (${status}): no`))).toBe(onVerify)
    expect(error('settle', new Error(`Facilitator settle failed (${status}): no`))).toBe(onSettle)
  })

  it('a refusal by status alone carries no words of the facilitator; one with a protocol body does', () => {
    expect(classifyError('settle', new Error('Facilitator settle failed (401): no'))).not.toHaveProperty(
      'response.success',
    )
    for (const [reason, status] of [
      ['gremlins', 401],
      ['unsupported_scheme', 400],
      ['failed_to_execute_transfer', 200],
    ] as const)
      expect(classifyResponse('settle', refusal(reason), status)).toMatchObject({
        kind: 'declined',
        response: refusal(reason),
      })
  })

  it("a connection that a client of the seller's could not make is unconfirmed: it may follow redirects, or ask again", () => {
    expect(classifyError('settle', refused())).toMatchObject({ kind: 'unreachable', isUnconfirmed: true })
  })

  it.each([
    'ECONNREFUSED',
    'ENOTFOUND',
    'ERR_SSL_WRONG_VERSION_NUMBER',
    'CERT_HAS_EXPIRED',
    'UND_ERR_CONNECT_TIMEOUT',
  ])('fetch with %s did not arrive', code => {
    const thrown = new TypeError('fetch failed', { cause: Object.assign(new Error(), { code }) })
    expect(error('settle', thrown)).toBe('unreachable')
  })

  it('a connection that failed on each of its addresses did not arrive', () => {
    const attempt = (code: string) => Object.assign(new Error(), { code, syscall: 'connect' })
    const cause = new AggregateError([attempt('ECONNREFUSED'), attempt('ETIMEDOUT')])
    expect(error('settle', new TypeError('fetch failed', { cause }))).toBe('unreachable')
  })

  it.each([
    'ECONNRESET',
    'UND_ERR_SOCKET',
    'ETIMEDOUT',
    'EPIPE',
    'ERR_SSL_DECRYPTION_FAILED_OR_BAD_RECORD_MAC',
  ])('fetch with %s may have arrived', code => {
    const thrown = new TypeError('fetch failed', { cause: Object.assign(new Error(), { code }) })
    expect(error('settle', thrown)).toBe('unknown')
  })

  it("a refused connection of an in-process facilitator's chain node says nothing about the payment", () => {
    expect(error('settle', new Error('HTTP request failed', { cause: refused() }))).toBe('unknown')
    expect(error('settle', Object.assign(new Error('rpc'), { code: 'ECONNREFUSED' }))).toBe('unknown')
  })

  it('a time-out, a bare error and what is no error at all are unknown', () => {
    expect(error('settle', new FacilitatorTimeoutError('settle', 5))).toBe('unknown')
    expect(error('settle', new Error('boom'))).toBe('unknown')
    expect(error('settle', 'boom')).toBe('unknown')
    expect(error('settle', undefined)).toBe('unknown')
  })

  it('no signature travels on in a reason', () => {
    const outcome = classifyError('settle', new Error(`call data ${signature} by ${payer} on ${network}`))
    expect(outcome).toMatchObject({ reason: `call data [redacted bytes] by ${payer} on ${network}` })
  })
})

describe('a refused connection, as each runtime reports it', () => {
  const reports: [string, Error][] = [
    [
      'Node',
      new TypeError('fetch failed', {
        cause: Object.assign(new Error('connect'), { code: 'ECONNREFUSED', syscall: 'connect' }),
      }),
    ],
    [
      'Bun',
      Object.assign(new TypeError('Unable to connect. Is the computer able to access the url?'), {
        code: 'ECONNREFUSED',
      }),
    ],
    [
      'Deno',
      new TypeError('error sending request for url', {
        cause: new Error(
          'error sending request: client error (Connect): tcp connect error: Connection refused (os error 111)',
        ),
      }),
    ],
  ]
  it.each(reports)('%s', (_, error) => {
    expect(classifyError('settle', error)).toMatchObject({ kind: 'unreachable' })
  })

  it.each([
    [
      'Node',
      new TypeError('fetch failed', {
        cause: Object.assign(new Error('read'), { code: 'ECONNRESET', syscall: 'read' }),
      }),
    ],
    [
      'Bun',
      Object.assign(new TypeError('The socket connection was closed unexpectedly.'), { code: 'ECONNRESET' }),
    ],
    [
      'Deno',
      new TypeError('error sending request for url', {
        cause: new Error('error sending request: client error (SendRequest): connection closed'),
      }),
    ],
    // It tells a refused connection from a broken one in no way.
    ['workerd', new Error('Network connection lost.')],
  ] as [string, Error][])('while a broken one is doubt: %s', (_, error) => {
    expect(classifyError('settle', error)).toMatchObject({ kind: 'unknown' })
  })
})

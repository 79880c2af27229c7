/** The nodes of a chain, each asked nothing before it has shown that it is of that chain. */
import {
  BaseError,
  createTransport,
  ExecutionRevertedError,
  HttpRequestError,
  hexToNumber,
  http,
  type RpcBlock,
  TimeoutError,
  type Transport,
} from 'viem'
import { now } from '../runtime/clock.ts'

/** Milliseconds for which a node that did not answer is passed over: a question has no time to wait for it twice. */
const restMs = 10_000
/**
 * Seconds by which a node's newest block may be older than another node's. Nodes are held against each other, never
 * against a clock: there are chains with slow blocks, and chains that halt.
 */
export const maxLagSeconds = 30

type Request = (asked: { method: string; params?: unknown }) => Promise<unknown>

interface Node {
  readonly request: Request
  restsUntil: number
}

/** Asks one node after the other; those that have just failed only when all have. */
export function nodes(urls: readonly string[], chainId: number, timeoutMs: number): Transport {
  const options = { timeout: timeoutMs, retryCount: urls.length > 1 ? 0 : 1, retryDelay: 100 }
  const all = urls.map(url => connect(http(url, options)({}).request, chainId))
  const awake = () => {
    const found = all.filter(({ restsUntil }) => restsUntil <= now())
    return found.length > 0 ? found : all
  }

  const askInTurn: Request = async asked => {
    let failure: unknown
    for (const node of awake()) {
      try {
        return await node.request(asked)
      } catch (error) {
        if (ExecutionRevertedError.nodeMessage.test((error as Error).message)) throw error
        failure ??= error
      }
    }
    throw failure
  }

  /** A node that is stuck knows nothing of what was paid since: where the newest block looks old, all are asked. */
  const askForHead: Request = async asked => {
    const head = (await askInTurn(asked)) as RpcBlock
    if (timeOf(head) > Date.now() / 1000 - maxLagSeconds) return head
    const candidates = awake()
    const heads = await Promise.all(
      candidates.map(node =>
        node.request(asked).then(
          block => block as RpcBlock,
          () => undefined,
        ),
      ),
    )
    const newest = heads.reduce((one, other) => (timeOf(other) > timeOf(one) ? other : one), head)
    heads.forEach((block, index) => {
      const node = candidates[index]
      if (node && block && timeOf(block) < timeOf(newest) - maxLagSeconds) node.restsUntil = now() + restMs
    })
    return newest
  }

  const request: Request = asked =>
    all.length > 1 && asked.method === 'eth_getBlockByNumber' && (asked.params as unknown[])[0] === 'latest'
      ? askForHead(asked)
      : askInTurn(asked)
  return () =>
    createTransport({
      key: 'nodes',
      name: 'nodes',
      type: 'nodes',
      request: request as ReturnType<Transport>['request'],
      retryCount: 0,
    })
}

const timeOf = (block: RpcBlock | undefined) => Number(block?.timestamp ?? 0)

/**
 * A node of another chain knows nothing of a payment, and would call it unspent: Permit2, and many a token, have the
 * same address everywhere. It is asked for its chain once, and anew when it has failed.
 *
 * @throws {BaseError} by its requests, when the node is of another chain
 */
function connect(request: Request, chainId: number): Node {
  let isOfChain = false
  const node: Node = {
    restsUntil: 0,
    async request(asked) {
      try {
        if (!isOfChain) {
          const id = hexToNumber((await request({ method: 'eth_chainId' })) as `0x${string}`)
          if (id !== chainId) throw new WrongChainError(`the node is of the chain eip155:${id}`)
          isOfChain = true
        }
        return await request(asked)
      } catch (error) {
        if (isDown(error)) {
          node.restsUntil = now() + restMs
          isOfChain = false
        }
        throw error
      }
    },
  }
  return node
}

class WrongChainError extends BaseError {}

/** Whether the node has failed, and not the request: some refuse what they do not search with 400 or 413. */
function isDown(error: unknown): boolean {
  if (error instanceof HttpRequestError) return error.status !== 400 && error.status !== 413
  return error instanceof TimeoutError || error instanceof WrongChainError
}

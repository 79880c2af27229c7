/** The Worker of the tests: runs the demands on its own ledger, and leads calls from outside to its objects. */
import { durableObjectLedger, type ObjectNamespace } from '../../src/durable-object/index.ts'
import { settlementLedgerConformance } from '../../src/testing/index.ts'

export { SettlementLedgerObject } from '../../src/durable-object/index.ts'

interface Bindings {
  readonly SETTLEMENTS: ObjectNamespace
  /** Of a class without SQLite. */
  readonly WITHOUT_SQLITE: ObjectNamespace
}

export default {
  async fetch(request: Request, { SETTLEMENTS, WITHOUT_SQLITE }: Bindings): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url)
    const shards = Number(searchParams.get('shards') ?? 1)
    const demands = settlementLedgerConformance(() => durableObjectLedger(SETTLEMENTS, { shards }))
    switch (pathname) {
      case '/demands':
        return Response.json(demands.map(({ name }) => name))
      case '/run': {
        const demand = demands.find(({ name }) => name === searchParams.get('name'))
        const error = await demand?.run().then(
          () => undefined,
          (thrown: unknown) => `${thrown}`,
        )
        return Response.json({ isKnown: demand !== undefined, error })
      }
      default: {
        const namespace = searchParams.has('without-sqlite') ? WITHOUT_SQLITE : SETTLEMENTS
        const object = namespace.get(namespace.idFromName(pathname))
        return object.fetch('https://object.invalid/', { method: 'POST', body: await request.text() })
      }
    }
  },
}

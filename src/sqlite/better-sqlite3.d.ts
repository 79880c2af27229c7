/** The part of `better-sqlite3` that is used: an optional peer, whose types are a package of their own. */
declare module 'better-sqlite3' {
  const Database: new (
    path: string,
  ) => {
    exec(sql: string): unknown
    prepare(sql: string): {
      run(...values: (string | number | null)[]): unknown
      get(...values: (string | number | null)[]): unknown
      all(...values: (string | number | null)[]): unknown[]
    }
    close(): void
  }
  export default Database
}

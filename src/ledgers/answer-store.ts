/** Where the gateways of one seller keep the answers that they have given, so that each of them gives the same. */
export interface AnswerStore {
  /** What is kept under this name, if it has not expired. */
  get(name: string): Promise<string | undefined>
  /**
   * Keeps it for so many milliseconds, unless something is kept under this name: of any number at the same time one is.
   *
   * @returns what is kept now
   */
  putIfAbsent(name: string, answer: string, keepMs: number): Promise<string>
}

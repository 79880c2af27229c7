/** The command was called wrongly: one sentence, with the remedy. */
export class UsageError extends Error {}

import { fileURLToPath } from 'node:url'

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url))

export const paths = {
  root: at('../..'),
  /** The built package. */
  library: at('../../dist'),
  here: at('.'),
  packages: at('./node_modules'),
  /** What this folder builds; ignored by git. */
  bundles: at('./dist'),
}

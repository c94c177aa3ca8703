/** Modules of bench/, which are JavaScript: a test says what it takes from one. */
export const bench = <T>(file: string): Promise<T> =>
  import(new URL(`../../bench/${file}`, import.meta.url).href)

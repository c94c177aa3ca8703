export const bundle: (program: string, outfile: string) => Promise<void>

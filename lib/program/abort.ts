/**
 * One listener for each signal, however many programs it may abort.
 *
 * A signal that is shared by all mounts of a job is the usual way, and Node prints a MaxListenersExceededWarning
 * from the eleventh listener on (seen on Node 20). The set is empty again when the programs have ended.
 */
const listening = new WeakMap<AbortSignal, Set<() => void>>()

/** Calls `abort` when the signal fires, until what it returns is called. */
export function whenAborted(signal: AbortSignal, abort: () => void): () => void {
  let aborts = listening.get(signal)
  if (aborts === undefined) {
    const all = new Set<() => void>()
    signal.addEventListener(
      'abort',
      () => {
        for (const each of all) each()
      },
      { once: true },
    )
    listening.set(signal, all)
    aborts = all
  }
  aborts.add(abort)
  return () => aborts.delete(abort)
}

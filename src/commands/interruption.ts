/** Ctrl-C as a signal, for work that ends well where it stands; pressed again, it ends the process. */
export function watchInterrupt(): { signal: AbortSignal; end(): void } {
  const controller = new AbortController();
  const abort = () => controller.abort();
  process.once("SIGINT", abort);
  return { signal: controller.signal, end: () => void process.removeListener("SIGINT", abort) };
}

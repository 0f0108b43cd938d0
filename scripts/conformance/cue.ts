import type { ToolCall } from "../../src/core/testing/fakes/model-shapes.ts";

export type Cue = ReturnType<typeof createCue>;

/** What the model says next; while closed, it keeps it to itself. */
export function createCue() {
  let open: () => void = () => undefined;
  const cue = {
    reply: (_body: Record<string, unknown>): string | ToolCall => "",
    opening: Promise.resolve(),
    close() {
      ({ promise: cue.opening, resolve: open } = Promise.withResolvers<void>());
    },
    open: () => open(),
  };
  return cue;
}

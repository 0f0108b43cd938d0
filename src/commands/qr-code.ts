import { draw } from "./output.ts";

/** Draws a link for a phone's camera, on a terminal only. */
export async function drawQrCode(url: string): Promise<void> {
  if (!process.stdout.isTTY) return;
  const { default: qrcode } = await import("qrcode");
  draw(await qrcode.toString(url, { type: "terminal", small: true }));
}

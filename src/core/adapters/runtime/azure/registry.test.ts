import assert from "node:assert/strict";
import test from "node:test";
import { parseImage } from "./registry.ts";

const DIGEST = `sha256:${"0f".repeat(32)}`;
const HUB = "registry-1.docker.io";

const IMAGES: Record<string, [registry: string, repository: string, reference: string]> = {
  "ghcr.io/openclaw/openclaw:2026.9.6": ["ghcr.io", "openclaw/openclaw", "2026.9.6"],
  "ghcr.io/openclaw/openclaw": ["ghcr.io", "openclaw/openclaw", "latest"],
  "acme.azurecr.io/openclaw:1": ["acme.azurecr.io", "openclaw", "1"],
  "Acme.azurecr.io/openclaw:Beta": ["acme.azurecr.io", "openclaw", "Beta"],
  [`acme.azurecr.io/team/openclaw@${DIGEST}`]: ["acme.azurecr.io", "team/openclaw", DIGEST],
  // The digest counts, as for whoever pulls it.
  [`acme.azurecr.io/openclaw:1@${DIGEST}`]: ["acme.azurecr.io", "openclaw", DIGEST],
  "127.0.0.1:5000/openclaw:1": ["127.0.0.1:5000", "openclaw", "1"],
  "registry:5000/openclaw": ["registry:5000", "openclaw", "latest"],
  "localhost/openclaw:1": ["localhost", "openclaw", "1"],
  debian: [HUB, "library/debian", "latest"],
  "debian:13": [HUB, "library/debian", "13"],
  "openclaw/openclaw:1": [HUB, "openclaw/openclaw", "1"],
  "docker.io/openclaw/openclaw:1": [HUB, "openclaw/openclaw", "1"],
  "docker.io/debian": [HUB, "library/debian", "latest"],
};

for (const [image, [registry, repository, reference]] of Object.entries(IMAGES)) {
  test(`${image} is ${reference} of ${repository} on ${registry}`, () => {
    assert.deepEqual(parseImage(image), { registry, repository, reference });
  });
}

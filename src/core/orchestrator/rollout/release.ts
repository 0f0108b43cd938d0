import { UsageError } from "../../platform/errors.ts";
import type { ReleaseId } from "../../platform/ids.ts";
import type { FleetSettings } from "../spec.ts";

/** What runtimes are made of apart from their tenant: all of the fleet's settings that an operator chooses. */
export type ReleaseContent = Pick<FleetSettings, "image" | "modelsByTier">;

export type Release = ReleaseContent & {
  id: ReleaseId;
  createdAt: Date;
  createdBy: string;
  /** When it last became what new tenants get; null: it never was. */
  currentAt: Date | null;
  /** When too many failed with it, or somebody went back from it. */
  failedAt: Date | null;
  failedReason: string | null;
};

/** What is to be other than in the release that it starts from. */
export type ReleaseChange = { image?: string; basic?: readonly string[]; plus?: readonly string[] };

export function changeContent({ image, modelsByTier }: ReleaseContent, change: ReleaseChange): ReleaseContent {
  return {
    image: change.image ?? image,
    modelsByTier: { basic: change.basic ?? modelsByTier.basic, plus: change.plus ?? modelsByTier.plus },
  };
}

export function isSameContent(one: ReleaseContent, other: ReleaseContent): boolean {
  const listOf = ({ image, modelsByTier }: ReleaseContent) => [image, modelsByTier.basic, modelsByTier.plus];
  return JSON.stringify(listOf(one)) === JSON.stringify(listOf(other));
}

const LONGEST = 500;
const NAME = /^(?:[a-z0-9][a-z0-9.-]*(?::[0-9]{1,5})?\/)?[a-z0-9]+(?:[._-]+[a-z0-9]+|\/[a-z0-9]+)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const DIGEST = /^sha256:[0-9a-f]{64}$/;
const EXAMPLE = "ghcr.io/openclaw/openclaw:2026.9.6";

/**
 * An image whose name may mean another one tomorrow can be neither compared nor gone back to.
 * @throws UsageError unless it names one image for good.
 */
export function checkImage(image: string): void {
  const [reference = "", digest, ...more] = image.split("@");
  // A colon before the last slash belongs to the registry's port.
  const colon = reference.indexOf(":", reference.lastIndexOf("/"));
  const [name, tag] = colon < 0 ? [reference, undefined] : [reference.slice(0, colon), reference.slice(colon + 1)];
  const isReference =
    image.length <= LONGEST &&
    more.length === 0 &&
    NAME.test(name) &&
    (tag === undefined || TAG.test(tag)) &&
    (digest === undefined || DIGEST.test(digest));
  if (!isReference)
    throw new UsageError("image_invalid", `"${image}" is no image reference; it looks like ${EXAMPLE}.`);
  if (digest !== undefined || (tag !== undefined && tag !== "latest")) return;
  throw new UsageError(
    "image_not_immutable",
    `The image ${image} has ${tag === undefined ? "no tag" : "the tag latest"}, and may be another one tomorrow. Name a tag that is never moved, or a digest, e.g. ${EXAMPLE} or ${name}@sha256:….`,
  );
}

/** For people: `ghcr.io/openclaw/openclaw:2026.9.6, basic: a, plus: b, a`. */
export function describeContent({ image, modelsByTier: { basic, plus } }: ReleaseContent): string {
  return `${image}, basic: ${basic.join(", ")}, plus: ${plus.join(", ")}`;
}

/** Resource ids are one whatever their casing: what records are kept under. */
export function keyOf(id: string): string {
  return id.toLowerCase().replace(/^\/{2,}/, "/");
}

/** Container Apps and identities show ids in other casing than they were given. */
export function shownId(id: string): string {
  return id.replace(/\/resourceGroups\//i, "/resourcegroups/").replace(/\/containerApps\//i, "/containerapps/");
}

export function nameOf(id: string): string {
  return id.slice(id.lastIndexOf("/") + 1);
}

export function subscriptionOf(id: string): string {
  return id.split("/")[2] ?? "";
}

const WORDS =
  /(north|south|east|west|central|europe|us|uk|asia|india|japan|australia|france|germany|sweden|norway|switzerland|brazil|canada|korea|poland|italy|spain|uae|\d+)/g;

/** A location as ARM shows it: `westeurope` comes back as `West Europe`, `eastus2` as `East US 2`. */
export function shownLocation(location: string): string {
  const words = location.toLowerCase().match(WORDS) ?? [];
  if (words.join("") !== location.toLowerCase()) return location;
  return words
    .map((word) => (/^(us|uk|uae)$/.test(word) ? word.toUpperCase() : word.charAt(0).toUpperCase() + word.slice(1)))
    .join(" ");
}

export function sameLocation(one: string, other: string): boolean {
  return plain(one) === plain(other);
}

function plain(location: string): string {
  return location.replaceAll(" ", "").toLowerCase();
}

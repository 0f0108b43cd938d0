import type { Stamp } from "../../../platform/config.ts";
import type { TenantId } from "../../../platform/ids.ts";
import type { Journal } from "../journal.ts";
import type { DriverCall } from "../runtime-driver.ts";
import type { ArmClients } from "./arm-clients.ts";
import { explainArmError, readArmFailure } from "./arm-errors.ts";
import { withArmScope } from "./arm-scope.ts";

/** For whom something is done on Azure, how urgent it is, and when to stop. */
export type Errand = DriverCall & { tenantId?: TenantId };

/** One stamp, as the parts of the driver use it. */
export type StampClient = {
  stamp: Stamp;
  arm: ArmClients;
  /** Between two looks at what is under way. */
  pollMs: number;
  /** Does something that is worth remembering: its outcome goes to the tenant's journal. */
  step<Result>(errand: Errand, step: string, what: string, work: () => Promise<Result>): Promise<Result>;
  /** Only looks. */
  look<Result>(errand: Errand, what: string, work: () => Promise<Result>): Promise<Result>;
};

export function createStampClient(options: {
  stamp: Stamp;
  arm: ArmClients;
  journal: Journal;
  pollMs: number;
}): StampClient {
  const { journal, ...rest } = options;

  /** Azure's errors hold requests and signed addresses: from here on they are our own. */
  async function explained<Result>(what: string, work: () => Promise<Result>): Promise<Result> {
    try {
      return await work();
    } catch (error) {
      throw explainArmError(error, what);
    }
  }

  return {
    ...rest,
    step: ({ tenantId, ...call }, step, what, work) =>
      journal.step(
        { ...(tenantId === undefined ? {} : { tenantId }), step },
        () => explained(what, work),
        scopeOf(call),
      ),
    look: ({ tenantId: _tenantId, ...call }, what, work) => withArmScope(scopeOf(call), () => explained(what, work)),
  };
}

function scopeOf({ urgency = "repair", signal }: DriverCall) {
  return { urgency, ...(signal === undefined ? {} : { signal }) };
}

/** What `read` gives, or undefined where there is nothing. */
export async function ifThere<Result>(read: () => Promise<Result>): Promise<Result | undefined> {
  try {
    return await read();
  } catch (error) {
    if (readArmFailure(error).status === 404) return undefined;
    throw error;
  }
}

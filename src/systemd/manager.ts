/**
 * systemd's manager: probing, starting a container's two units in one call, waiting for jobs and for the end.
 * Source: org.freedesktop.systemd1(5).
 */
import { OciError, quote } from '../oci/errors.ts';
import { type Bus, BusError, type CallTarget, connectBus, unwrap, variant } from './bus.ts';

const SYSTEMD = 'org.freedesktop.systemd1';
/** How systemd writes "not set" and "no limit". */
export const UINT64_MAX = 0xffff_ffff_ffff_ffffn;
const INVOCATION_ID_BYTES = 16;
const MANAGER: CallTarget = {
  destination: SYSTEMD,
  path: '/org/freedesktop/systemd1',
  interface: 'org.freedesktop.systemd1.Manager',
};

/** A property as StartTransientUnit() takes it. */
export interface Property {
  readonly property: string;
  readonly signature: string;
  readonly value: unknown;
}

export interface TransientUnit {
  name: string;
  properties: readonly Property[];
  /** What to do when it is this unit that fails to start, and none that it needs. */
  hint?: string;
}

/** How a service's main process ended. */
export interface ServiceEnd {
  /** The exit status, or 128 + signal; 125 where systemd does not know it. */
  status: number;
  /** systemd's Result=: success, exit-code, signal, core-dump, timeout, oom-kill, …; ours: status-lost. */
  result: string;
  /** MemoryMax= as it was in the end; undefined for no limit. */
  memoryMaxBytes: number | undefined;
}

export interface Manager {
  readonly version: string;
  /** Those D-Bus properties of services, of the ones asked for, that this systemd has. */
  readonly serviceProperties: ReadonlySet<string>;
  /**
   * Starts `unit`, with `helpers` made in the same call and pulled in by it, and waits until it is started.
   * Throws EXISTS where a unit of that name is loaded; otherwise what systemd or the units' own journal say.
   */
  start(unit: TransientUnit, helpers: readonly TransientUnit[]): Promise<void>;
  stop(unit: string): Promise<void>;
  kill(unit: string, signal: number): Promise<void>;
  /** Waits until a unit started by this connection has ended. */
  waitForEnd(unit: string): Promise<ServiceEnd>;
  /** Waits until a unit is gone or inactive; at most `timeoutMs`. */
  waitUntilInactive(unit: string, timeoutMs: number): Promise<void>;
  /** Properties of a service and its unit by name; of a unit that is not loaded, systemd's defaults. */
  properties(unit: string): Promise<Map<string, unknown>>;
  /** Keeps a loaded unit, and so its exit status, for as long as this connection lives. Throws INPUT_NOT_FOUND. */
  hold(unit: string): Promise<void>;
  /** Its cgroup below /sys/fs/cgroup, as `/oci.slice/NAME.service`; empty when no process of it runs. */
  controlGroup(unit: string): Promise<string>;
  /** Changes a loaded unit until it ends. */
  setProperties(unit: string, properties: readonly Property[]): Promise<void>;
  thaw(unit: string): Promise<void>;
  /** Moves processes into the unit's cgroup, or a delegated one below it: `/payload`. */
  attach(unit: string, subcgroup: string, pids: readonly number[]): Promise<void>;
  close(): void;
}

/** `probe`: names of properties that only some versions have. */
export async function connectManager(probe: readonly string[] = []): Promise<Manager> {
  const bus = connectBus();
  try {
    const [version, serviceProperties] = await Promise.all([
      getProperty(bus, MANAGER.path, MANAGER.interface, 'Version'),
      probeServiceProperties(bus, probe),
    ]);
    return makeManager(bus, String(version).split(' ')[0]!, serviceProperties);
  } catch (error) {
    bus.close();
    if (error instanceof BusError)
      throw new OciError('UNAVAILABLE', `systemd does not answer: ${error.message}`, {
        hint: 'Run this on a machine that systemd booted.',
        cause: error,
      });
    throw error;
  }
}

function makeManager(bus: Bus, version: string, serviceProperties: ReadonlySet<string>): Manager {
  return {
    version,
    serviceProperties,
    async start(unit, helpers) {
      const jobs = new JobWatch();
      // at once: the bus and systemd take them in this order
      const [, , job] = await Promise.all([
        bus.call(MANAGER, 'Subscribe'),
        bus.listen(
          `type='signal',sender='${SYSTEMD}',interface='${MANAGER.interface}',member='JobRemoved',path='${MANAGER.path}'`,
          (signal) => {
            if (signal.member === 'JobRemoved') jobs.removed(String(signal.body[1]), String(signal.body[3]));
          },
        ),
        startTransientUnit(bus, unit, helpers),
      ]);
      const result = await jobs.wait(job);
      if (result === 'done' || (result === 'failed' && (await ranAndEnded(bus, unit.name)))) return;
      if (result === 'canceled' && (await wasRunning(bus, unit.name))) return;
      throw await startFailure(bus, unit, helpers[0]?.name ?? unit.name, result);
    },
    async stop(unit) {
      await bus.call(MANAGER, 'StopUnit', 'ss', [unit, 'replace']).catch(ignoreNoSuchUnit);
    },
    async kill(unit, signal) {
      await bus.call(MANAGER, 'KillUnit', 'ssi', [unit, 'main', signal]).catch(ignoreNoSuchUnit);
    },
    async waitForEnd(unit) {
      const path = unitPath(unit);
      await becomesInactive(bus, unit);
      const [code, status, result, memoryMax] = await Promise.all(
        ['ExecMainCode', 'ExecMainStatus', 'Result', 'MemoryMax'].map((name) =>
          getProperty(bus, path, `${SYSTEMD}.Service`, name),
        ),
      );
      return {
        ...serviceEnd(Number(code), Number(status), String(result)),
        memoryMaxBytes: memoryMax === UINT64_MAX ? undefined : Number(memoryMax),
      };
    },
    async waitUntilInactive(unit, timeoutMs) {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, timeoutMs);
      });
      // where it cannot be asked about any more it is gone
      await Promise.race([becomesInactive(bus, unit).catch(() => {}), late]);
      clearTimeout(timer);
    },
    async properties(unit) {
      const [unitValues, serviceValues] = await Promise.all(
        ['Unit', 'Service'].map((type) => getAll(bus, unitPath(unit), `${SYSTEMD}.${type}`)),
      );
      return new Map([...unitValues!, ...serviceValues!]);
    },
    async hold(unit) {
      await bus.call(MANAGER, 'RefUnit', 's', [unit]).catch((error) => {
        throw error instanceof BusError ? noSuchUnit(unit, error) : error;
      });
    },
    async controlGroup(unit) {
      return String(await getProperty(bus, unitPath(unit), `${SYSTEMD}.Service`, 'ControlGroup'));
    },
    async setProperties(unit, properties) {
      const runtime = true; // not in /etc: it ends with the unit
      await verb(bus, unit, 'SetUnitProperties', 'sba(sv)', [unit, runtime, properties.map(toProperty)]);
    },
    async thaw(unit) {
      await verb(bus, unit, 'ThawUnit', 's', [unit]);
    },
    async attach(unit, subcgroup, pids) {
      await verb(bus, unit, 'AttachProcessesToUnit', 'ssau', [unit, subcgroup, pids]);
    },
    close: () => bus.close(),
  };
}

/** Resolves when the unit is inactive or failed. Signals are only a reason to ask again: the answer is the truth. */
async function becomesInactive(bus: Bus, unit: string): Promise<void> {
  const path = unitPath(unit);
  await new Promise<void>((resolve, reject) => {
    const check = async () => {
      const state = await getProperty(bus, path, `${SYSTEMD}.Unit`, 'ActiveState');
      if (state === 'inactive' || state === 'failed') resolve();
    };
    const listening = bus.listen(
      `type='signal',sender='${SYSTEMD}',interface='org.freedesktop.DBus.Properties',member='PropertiesChanged',path='${path}'`,
      (signal) => {
        if (signal.path === path) check().catch(reject);
      },
    );
    Promise.all([listening, check()]).catch(reject);
  });
}

/** ExecMainCode: CLD_EXITED 1, CLD_KILLED 2, CLD_DUMPED 3 (sigaction(2)); 0 where no end of a main process was seen. */
export function serviceEnd(
  code: number,
  status: number,
  result: string,
): Pick<ServiceEnd, 'status' | 'result'> {
  // 257 may take the main process of PrivatePIDs= for somebody else's child, miss its end, and then say success
  if (code === 0) return { status: 125, result: result === 'success' ? 'status-lost' : result };
  return { status: code === 1 ? status : 128 + status, result };
}

async function verb(
  bus: Bus,
  unit: string,
  member: string,
  signature: string,
  body: unknown[],
): Promise<void> {
  try {
    await bus.call(MANAGER, member, signature, body);
  } catch (error) {
    if (!(error instanceof BusError)) throw error;
    if (error.errorName === 'org.freedesktop.systemd1.NoSuchUnit') throw noSuchUnit(unit, error);
    throw new OciError('UNAVAILABLE', `unit ${quote(unit)}: ${error.message}`, {
      hint: `Look at it with systemctl status ${unit}.`,
      cause: error,
    });
  }
}

function noSuchUnit(unit: string, cause: BusError): OciError {
  return new OciError('INPUT_NOT_FOUND', `no unit ${quote(unit)} is loaded`, {
    hint: 'List the containers with: ocictl ps.',
    cause,
  });
}

async function getAll(bus: Bus, path: string, interfaceName: string): Promise<[string, unknown][]> {
  const target = { destination: SYSTEMD, path, interface: 'org.freedesktop.DBus.Properties' };
  const [all] = await bus.call(target, 'GetAll', 's', [interfaceName]);
  return [...(all as Map<string, unknown>)].map(([name, value]) => [name, unwrap(value)]);
}

/** Results of jobs, also of those that end before anybody waits for them. */
class JobWatch {
  readonly #results = new Map<string, string>();
  readonly #waiting = new Map<string, (result: string) => void>();

  removed(job: string, result: string): void {
    this.#results.set(job, result);
    this.#waiting.get(job)?.(result);
  }

  wait(job: string): Promise<string> {
    const known = this.#results.get(job);
    if (known !== undefined) return Promise.resolve(known);
    return new Promise((resolve) => this.#waiting.set(job, resolve));
  }
}

async function startTransientUnit(
  bus: Bus,
  unit: TransientUnit,
  helpers: readonly TransientUnit[],
): Promise<string> {
  // AddRef: keeps the unit loaded, and so its exit status readable, for as long as this connection lives
  const properties = [...toProperties(unit), ['AddRef', variant('b', true)]];
  try {
    const [job] = await bus.call(MANAGER, 'StartTransientUnit', 'ssa(sv)a(sa(sv))', [
      unit.name,
      'fail',
      properties,
      helpers.map((helper) => [helper.name, toProperties(helper)]),
    ]);
    return String(job);
  } catch (error) {
    throw error instanceof BusError ? startRefusal(error, unit.name) : error;
  }
}

function toProperties(unit: TransientUnit): unknown[] {
  return unit.properties.map(toProperty);
}

function toProperty({ property, signature, value }: Property): unknown[] {
  return [property, variant(signature, value)];
}

function startRefusal(error: BusError, unit: string): OciError {
  switch (error.errorName) {
    case 'org.freedesktop.systemd1.UnitExists': {
      // it may be one of the helpers
      const taken = /^Unit (\S+) /.exec(error.message)?.[1] ?? unit;
      return new OciError('EXISTS', `unit ${quote(taken)} exists`, {
        hint: `Choose another name with --name, or look at that one: systemctl status ${taken}.`,
        cause: error,
      });
    }
    case 'org.freedesktop.DBus.Error.InvalidArgs':
      return new OciError('USAGE', `systemd refuses unit ${quote(unit)}: ${error.message}`, {
        hint: 'Correct what --property or -p says.',
        cause: error,
      });
    case 'org.freedesktop.DBus.Error.AccessDenied':
    case 'org.freedesktop.DBus.Error.InteractiveAuthorizationRequired':
      return new OciError('DENIED', `systemd refuses to start ${quote(unit)}: ${error.message}`, {
        hint: 'Run the command as root.',
        cause: error,
      });
    case 'org.freedesktop.DBus.Error.PropertyReadOnly':
    case 'org.freedesktop.DBus.Error.UnknownProperty':
      return new OciError('UNSUPPORTED', `systemd refuses unit ${quote(unit)}: ${error.message}`, {
        hint: 'Use systemd 257 or later.',
        cause: error,
      });
    default:
      return new OciError('UNAVAILABLE', `systemd refuses unit ${quote(unit)}: ${error.message}`, {
        hint: 'Look at the unit with --dry-run.',
        cause: error,
      });
  }
}

/** systemd's own status where execve() fails (systemd.exec(5), "Process exit codes"). */
const EXIT_EXEC = 203;

/**
 * Whether the payload itself ended, so fast that systemd counts the start as failed: before 258 its end may be heard of
 * before the execve(), or while a command of ExecStartPost= still runs (src/unit/lifecycle.ts).
 */
async function ranAndEnded(bus: Bus, unit: string): Promise<boolean> {
  const get = (name: string) => getProperty(bus, unitPath(unit), `${SYSTEMD}.Service`, name);
  if (!unit.endsWith('.service')) return false;
  // it was to be ready, and ended (protocol) or was ended (timeout) before that
  if (['protocol', 'timeout'].includes(String(await get('Result')))) return false;
  const [code, status, handoff] = await Promise.all(
    ['ExecMainCode', 'ExecMainStatus', 'ExecMainHandoffTimestamp'].map(async (name) =>
      Number(await get(name)),
    ),
  );
  return code! > 0 && handoff! > 0 && !(code === 1 && status === EXIT_EXEC);
}

/**
 * Whether the payload ran when somebody stopped it, though systemd still counted its start as under way: before 258, for the
 * same command of ExecStartPost=. Its end is then the answer.
 */
async function wasRunning(bus: Bus, unit: string): Promise<boolean> {
  const get = (name: string) => getProperty(bus, unitPath(unit), `${SYSTEMD}.Service`, name);
  if (!unit.endsWith('.service') || (await get('Type')) !== 'exec') return false;
  return Number(await get('ExecMainHandoffTimestamp')) > 0;
}

/** Why a start job failed: the words of the unit that failed, which is the first helper when that is a dependency. */
async function startFailure(
  bus: Bus,
  { name: unit, hint }: TransientUnit,
  helper: string,
  jobResult: string,
): Promise<OciError> {
  const failed = jobResult === 'dependency' ? helper : unit;
  const messages = await journalOf(bus, failed);
  const why =
    jobResult === 'canceled'
      ? 'it was stopped meanwhile'
      : (wordsOfFailure(messages) ?? (await howItFailed(bus, failed, jobResult)));
  return new OciError('UNAVAILABLE', `unit ${quote(unit)} failed to start: ${why}`, {
    hint: (failed === unit ? hint : undefined) ?? `See the whole story with: journalctl -u ${failed}.`,
    ...(messages.length > 1 ? { detail: messages.join('\n') } : {}),
  });
}

/** What a unit said in its last start, oldest first. */
async function journalOf(bus: Bus, unit: string): Promise<string[]> {
  const invocation = await getProperty(bus, unitPath(unit), `${SYSTEMD}.Unit`, 'InvocationID').catch(
    () => undefined,
  );
  if (!(invocation instanceof Uint8Array) || invocation.length !== INVOCATION_ID_BYTES) return [];
  const { lastMessages } = await import('./journal.ts');
  return lastMessages(unit, Buffer.from(invocation).toString('hex'), 5);
}

/** For a unit that said nothing. */
async function howItFailed(bus: Bus, unit: string, jobResult: string): Promise<string> {
  if (unit.endsWith('.socket')) return 'systemd cannot listen there';
  const get = (name: string) =>
    getProperty(bus, unitPath(unit), `${SYSTEMD}.Service`, name).catch(() => undefined);
  const [result, code, status] = await Promise.all([
    get('Result'),
    get('ExecMainCode'),
    get('ExecMainStatus'),
  ]);
  const end = mainEnd(Number(code), Number(status));
  if (jobResult === 'dependency') return `its setup failed, ${end}`;
  if (result === 'timeout') return 'it was not ready in time';
  if (result === 'protocol') return 'the payload ended and did not say that it was ready';
  return end;
}

/** The last line, or the one before it that says why the step failed. */
function wordsOfFailure(messages: readonly string[]): string | undefined {
  const last = messages.at(-1);
  const before = messages.at(-2);
  return last?.includes(': Failed at step ') && before?.includes(': Failed to ') ? before : last;
}

/** Of systemd's own statuses (systemd.exec(5), "Process exit codes") those that a container's units have come to. */
const STEPS: Readonly<Record<number, string>> = {
  203: 'its program could not be executed',
  205: 'its limits could not be set',
  217: 'its user could not be looked up',
  219: 'its cgroup could not be set up',
  226: 'its mounts and namespaces could not be set up',
  243: 'its credentials could not be loaded',
};

function mainEnd(code: number, status: number): string {
  if (code !== 1) return code === 0 ? 'it ended' : `it was ended by signal ${status}`;
  const step = STEPS[status];
  return `exit status ${status}${step === undefined ? '' : `: ${step}`}`;
}

/** One by one: there are 500 in all, and to read them takes longer than to start a container. */
async function probeServiceProperties(bus: Bus, names: readonly string[]): Promise<ReadonlySet<string>> {
  // a unit that is not there still has an object with every property of its type
  const path = unitPath('oci-probe.service');
  const isThere = async (name: string) => {
    try {
      await getProperty(bus, path, `${SYSTEMD}.Service`, name);
      return true;
    } catch (error) {
      if (error instanceof BusError && error.errorName === 'org.freedesktop.DBus.Error.UnknownProperty')
        return false;
      throw error;
    }
  };
  const found = await Promise.all(names.map(isThere));
  return new Set(names.filter((_, index) => found[index]));
}

async function getProperty(bus: Bus, path: string, interfaceName: string, name: string): Promise<unknown> {
  const target = { destination: SYSTEMD, path, interface: 'org.freedesktop.DBus.Properties' };
  const [value] = await bus.call(target, 'Get', 'ss', [interfaceName, name]);
  return unwrap(value);
}

/** The object path of a unit: every byte but letters and digits as _xx, a leading digit too. */
export function unitPath(unit: string): string {
  const escaped = Buffer.from(unit)
    .toString('latin1')
    .replace(/[^A-Za-z0-9]|^[0-9]/g, (c) => `_${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
  return `/org/freedesktop/systemd1/unit/${escaped}`;
}

function ignoreNoSuchUnit(error: unknown): void {
  if (!(error instanceof BusError && error.errorName === 'org.freedesktop.systemd1.NoSuchUnit')) throw error;
}

/** A repair under way, and what becomes of each damage: mended, or why not. */
import { toOciError } from './oci/errors.ts';
import type { Sources } from './repair-images.ts';
import type { Damage } from './store/check-store.ts';
import type { Store } from './store/store.ts';

export interface Repair {
  readonly store: Store;
  readonly damage: readonly Damage[];
  readonly outcomes: RepairOutcomes;
  readonly sources: Sources;
  /** Of what was fetched: discarded with the repair. */
  readonly stages: DisposableStack;
  readonly runRoot: string;
  readonly signal: AbortSignal;
  /** Hears what is being fetched. */
  readonly onNote?: ((message: string) => void) | undefined;
}

/** A damage, and what became of it. */
export interface Mended extends Damage {
  readonly repaired: boolean;
  /** Why not. */
  readonly reason?: string;
}

/** What is damaged; there may be several damages of it. */
export type DamagedThing = Pick<Damage, 'kind' | 'name'>;

const REPAIRED = Symbol();

/** What to say of a thing that nothing was tried for. */
const UNTRIED: Record<Damage['kind'], string> = {
  layer: 'its image is damaged, too',
  stream: 'its image is damaged, too',
  object: 'its layer cannot be had again; the next pull of its image fetches it',
  image: 'its documents cannot be had again',
  tag: 'remove it by hand',
  root: 'install the service again',
  skeleton: 'remove it by hand',
  entry: 'remove it by hand',
};

export class RepairOutcomes {
  readonly #damage: readonly Damage[];
  readonly #signal: AbortSignal;
  readonly #outcomes = new Map<string, typeof REPAIRED | string>();

  constructor(damage: readonly Damage[], signal: AbortSignal) {
    this.#damage = damage;
    this.#signal = signal;
  }

  /** The things of a kind that are damaged. */
  names(kind: Damage['kind']): Set<string> {
    return new Set(this.#damage.filter((one) => one.kind === kind).map(({ name }) => name));
  }

  /** Does what repairs the thing, and remembers how that ended. Throws only the reason of the signal. */
  async attempt(thing: DamagedThing, repair: () => Promise<void> | void): Promise<void> {
    if (await this.prepare(thing, repair)) this.repaired(thing);
  }

  /** Does what has to come before, and remembers a failure; whether it went well. Throws as attempt() does. */
  async prepare(thing: DamagedThing, step: () => Promise<void> | void): Promise<boolean> {
    try {
      await step();
      return true;
    } catch (error) {
      this.#signal.throwIfAborted();
      this.failed(thing, error);
      return false;
    }
  }

  repaired(thing: DamagedThing): void {
    this.#outcomes.set(keyOf(thing), REPAIRED);
  }

  failed(thing: DamagedThing, error: unknown): void {
    this.#outcomes.set(keyOf(thing), toOciError(error).message);
  }

  wasTried(thing: DamagedThing): boolean {
    return this.#outcomes.has(keyOf(thing));
  }

  wasRepaired(thing: DamagedThing): boolean {
    return this.#outcomes.get(keyOf(thing)) === REPAIRED;
  }

  /** Every damage, in the order given. */
  all(): Mended[] {
    return this.#damage.map((one) => {
      const outcome = this.#outcomes.get(keyOf(one)) ?? UNTRIED[one.kind];
      return outcome === REPAIRED ? { ...one, repaired: true } : { ...one, repaired: false, reason: outcome };
    });
  }
}

function keyOf({ kind, name }: DamagedThing): string {
  return `${kind} ${name}`;
}

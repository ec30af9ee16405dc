/**
 * The story of an update: limits of a running container are properties of its unit, and systemd changes them live.
 *
 * Invariant: all of them are changed, or an error says that they are not: they are read back. Nothing outlives the unit.
 */
import { parseResources, type ResourceTexts } from './bundle/resources.ts';
import { OciError, quote } from './oci/errors.ts';
import type { Manager, Property } from './systemd/manager.ts';
import { limitSettings } from './unit/resources.ts';

/** The properties that were set. Throws USAGE where `texts` hold no limit. `unit` is without `.service`. */
export async function updateContainer(
  unit: string,
  texts: ResourceTexts,
  manager: Manager,
): Promise<string[]> {
  const service = `${unit}.service`;
  const resources = parseResources(await withMemory(texts, service, manager));
  const settings = limitSettings(resources);
  if (settings.length === 0)
    throw new OciError('USAGE', 'no limit is given', {
      hint: `Write it as ocictl update --memory 256M ${unit}.`,
    });
  await manager.setProperties(service, settings);
  const now = await manager.properties(service);
  const other = settings.find(({ property, value }) => !isSame(now.get(property), value));
  if (other !== undefined)
    throw new OciError('UNAVAILABLE', `unit ${quote(service)}: systemd did not change ${other.property}=`, {
      hint: `Look at it with systemctl show --property=${other.property} ${unit}.`,
    });
  return settings.map(({ property }: Property) => property);
}

/** --memory-swap counts memory and swap together: without --memory, the limit that the container has. */
async function withMemory(texts: ResourceTexts, service: string, manager: Manager): Promise<ResourceTexts> {
  if (texts.memorySwap === undefined || texts.memory !== undefined) return texts;
  const limit = (await manager.properties(service)).get('MemoryMax') as bigint;
  return { ...texts, memory: limit <= BigInt(Number.MAX_SAFE_INTEGER) ? String(limit) : 'infinity' };
}

/** Sets of CPUs are bitmaps, in which zeros at the end say nothing. */
function isSame(now: unknown, wanted: unknown): boolean {
  if (!(wanted instanceof Uint8Array)) return now === wanted;
  const bits = (bytes: Uint8Array) =>
    Buffer.from(bytes)
      .toString('hex')
      .replace(/(00)+$/, '');
  return now instanceof Uint8Array && bits(now) === bits(wanted);
}

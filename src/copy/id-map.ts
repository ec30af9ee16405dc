/** The maps of a user namespace (user_namespaces(7)): ids inside ↔ ids of the host. */

/** undefined for an id that the other side does not have. */
export interface IdMap {
  toHost(inside: number): number | undefined;
  toInside(host: number): number | undefined;
}

/** `text`: of /proc/PID/uid_map or gid_map. */
export function parseIdMap(text: string): IdMap {
  const extents = text
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number) as [number, number, number]);
  const move = (id: number, from: 0 | 1, to: 0 | 1) => {
    const extent = extents.find((numbers) => id >= numbers[from] && id < numbers[from] + numbers[2]);
    return extent && id - extent[from] + extent[to];
  };
  return { toHost: (id) => move(id, 0, 1), toInside: (id) => move(id, 1, 0) };
}

/** Internet addresses and ports, as options and configuration have them. Pure; no names, no look-ups. */

/** An IPv4 address, or what can only be an IPv6 one; who uses it finds out the rest. */
export function isAddress(text: string): boolean {
  if (/^[\d.]+$/.test(text)) return parseIPv4(text) !== undefined;
  return /^[0-9a-fA-F:.]{2,45}$/.test(text) && text.split(':').length > 2;
}

/** The 32 bits of `10.0.0.1`, as a number; undefined for anything else. */
export function parseIPv4(text: string): number | undefined {
  const quads = text.split('.');
  // no leading zeros: some programs read them as octal
  if (quads.length !== 4 || !quads.every((quad) => /^(0|[1-9]\d{0,2})$/.test(quad) && Number(quad) < 256))
    return undefined;
  return quads.reduce((value, quad) => value * 256 + Number(quad), 0);
}

export function formatIPv4(value: number): string {
  return [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join('.');
}

export interface PublishedPort {
  /** Of the host; undefined: all of them; 0.0.0.0 and ::, all of one family. */
  hostAddress?: string;
  /** undefined: one that is free when the container starts. */
  hostPort?: number;
  containerPort: number;
  protocol: 'tcp' | 'udp' | 'sctp';
  /** So many ports, beginning with these two. */
  count: number;
}

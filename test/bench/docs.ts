import type { Report } from './results.ts';
export function writeDocs(_: Report): void {}

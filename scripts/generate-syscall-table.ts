/**
 * Writes src/seccomp/syscall-tables.ts from the kernel's own headers, which Debian's package linux-libc-dev has for
 * every architecture. To be run by hand when a newer kernel has new calls:
 *
 *   apt-get download linux-libc-dev && dpkg -x linux-libc-dev_*.deb headers
 *   node scripts/generate-syscall-table.ts headers 7.2.12-1
 *
 * Afterwards test/unit/seccomp/default-profile.test.ts names the calls that the default profile does not know yet.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [, , headers = 'headers', version = ''] = process.argv;

/** Our name of a table → its header below /usr/lib/linux/uapi. */
const TABLES = {
  X86_64: 'x86/asm/unistd_64.h',
  I386: 'x86/asm/unistd_32.h',
  AARCH64: 'arm64/asm/unistd_64.h',
  ARM: 'arm/asm/unistd-eabi.h',
};

/** ARM's private calls are not in that header; their numbers are `0x0f0000 + n` (arm/asm/unistd.h). */
const ARM_PRIVATE: [string, number][] = [
  ['breakpoint', 0xf0001],
  ['cacheflush', 0xf0002],
  ['usr26', 0xf0003],
  ['usr32', 0xf0004],
  ['set_tls', 0xf0005],
  ['get_tls', 0xf0006],
];

const LINE_MAX_CHARS = 110;

function readTable(table: string, header: string): [string, number][] {
  const text = readFileSync(join(headers, 'usr/lib/linux/uapi', header), 'utf8');
  const calls = [...text.matchAll(/^#define __NR_([a-z0-9_]+)\s+(?:\(__NR_SYSCALL_BASE \+ )?([0-9]+)\)?$/gm)]
    .map((match): [string, number] => [match[1]!, Number(match[2])])
    .filter(([name]) => name !== 'syscalls');
  if (calls.length < 300) throw new Error(`only ${calls.length} calls in ${header}`);
  return [...calls, ...(table === 'ARM' ? ARM_PRIVATE : [])].sort((a, b) => a[1] - b[1]);
}

/** Lines of consecutive numbers: the first one, then the names. */
function lines(calls: [string, number][]): string[] {
  const result: string[] = [];
  let expected = -1;
  for (const [name, number] of calls) {
    const last = result.at(-1);
    if (number === expected && last !== undefined && `${last} ${name}`.length <= LINE_MAX_CHARS)
      result[result.length - 1] = `${last} ${name}`;
    else result.push(`${number} ${name}`);
    expected = number + 1;
  }
  return result;
}

const text = `/**
 * Numbers of Linux's system calls by architecture. Made by scripts/generate-syscall-table.ts from the headers of
 * Debian's linux-libc-dev${version === '' ? '' : ` ${version}`}; do not edit. A line is a number and the names of the calls from there on.
 */
${Object.entries(TABLES)
  .map(
    ([table, header]) => `\nexport const ${table} = \`\n${lines(readTable(table, header)).join('\n')}\n\`;\n`,
  )
  .join('')}`;
const output = join(import.meta.dirname, '../src/seccomp/syscall-tables.ts');
writeFileSync(output, text);
console.log(`${output}: ${text.length} bytes`);

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatPlatform, machinePlatform, parsePlatform, platformRank } from '../../../src/oci/platform.ts';

test('platforms are normalised', () => {
  const table: [string, string][] = [
    ['linux/amd64', 'linux/amd64'],
    ['linux/x86_64', 'linux/amd64'],
    ['linux/amd64/v1', 'linux/amd64'],
    ['linux/amd64/v3', 'linux/amd64/v3'],
    ['linux/arm64/v8', 'linux/arm64'],
    ['linux/aarch64', 'linux/arm64'],
    ['linux/arm64/8', 'linux/arm64'],
    ['linux/arm', 'linux/arm/v7'],
    ['linux/arm/6', 'linux/arm/v6'],
    ['linux/armhf', 'linux/arm/v7'],
    ['linux/armel', 'linux/arm/v6'],
    ['linux/i386', 'linux/386'],
    ['Linux/S390X', 'linux/s390x'],
    ['arm64', 'linux/arm64'],
    ['linux/riscv64', 'linux/riscv64'],
  ];
  for (const [text, normal] of table) assert.equal(formatPlatform(parsePlatform(text)), normal, text);
  for (const text of ['', '/', 'linux/', 'linux//v8', 'a/b/c/d', 'linux/amd 64', '../x', 'x'.repeat(65)])
    assert.throws(() => parsePlatform(text), { code: 'USAGE' }, text);
});

test('a machine runs its own variant and the lesser ones', () => {
  const rank = (wanted: string, offered: string) =>
    platformRank(parsePlatform(wanted), parsePlatform(offered));
  const table: [string, string, number | undefined][] = [
    ['linux/amd64', 'linux/amd64', 0],
    ['linux/amd64', 'linux/amd64/v2', undefined],
    ['linux/amd64/v3', 'linux/amd64/v4', undefined],
    ['linux/amd64/v3', 'linux/amd64/v3', 0],
    ['linux/amd64/v3', 'linux/amd64/v2', 1],
    ['linux/amd64/v3', 'linux/amd64', 2],
    ['linux/arm64', 'linux/arm64/v8', 0],
    ['linux/arm64', 'linux/arm64/v9', undefined],
    ['linux/arm/v8', 'linux/arm/v7', 1],
    ['linux/arm/v7', 'linux/arm/v5', 2],
    ['linux/arm/v6', 'linux/arm', undefined],
    ['linux/arm64', 'linux/arm/v7', undefined],
    ['linux/amd64', 'windows/amd64', undefined],
    ['linux/amd64', 'unknown/unknown', undefined],
    ['linux/ppc64le', 'linux/ppc64le', 0],
    ['linux/ppc64le/power9', 'linux/ppc64le', 1],
    ['linux/ppc64le', 'linux/ppc64le/power9', undefined],
  ];
  for (const [wanted, offered, expected] of table)
    assert.equal(rank(wanted, offered), expected, `${wanted} runs ${offered}`);
});

test('the machine from its cpuinfo', () => {
  const v2 = 'cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3';
  const v3 = `${v2} abm avx avx2 bmi1 bmi2 f16c fma movbe xsave`;
  const v4 = `${v3} avx512f avx512bw avx512cd avx512dq avx512vl`;
  const amd64 = (flags: string) =>
    formatPlatform(machinePlatform('x64', `processor\t: 0\nflags\t\t: fpu ${flags}\n`));
  assert.equal(amd64(''), 'linux/amd64');
  assert.equal(amd64(v2), 'linux/amd64/v2');
  assert.equal(amd64(v3), 'linux/amd64/v3');
  assert.equal(amd64(v4), 'linux/amd64/v4');
  assert.equal(amd64(v4.replace('avx2 ', '')), 'linux/amd64/v2');
  assert.equal(formatPlatform(machinePlatform('x64', '')), 'linux/amd64');
  assert.equal(formatPlatform(machinePlatform('arm64', '')), 'linux/arm64');
  assert.equal(formatPlatform(machinePlatform('arm', 'CPU architecture: 6\n')), 'linux/arm/v6');
  assert.equal(formatPlatform(machinePlatform('arm', '')), 'linux/arm/v7');
  assert.equal(formatPlatform(machinePlatform('s390x', '')), 'linux/s390x');
});

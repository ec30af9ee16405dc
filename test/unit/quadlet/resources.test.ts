/** .volume, .network and .image files. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { translateImage, translateNetwork, translateVolume } from '../../../src/quadlet/resources.ts';
import { quadletFile } from './quadlet.ts';

test('.network', () => {
  const network = (lines: string) => translateNetwork(quadletFile('app.network', `[Network]\n${lines}\n`));
  assert.deepEqual(
    network(
      'Subnet=10.1.0.0/24\nSubnet=fd00::/64\nInternal=true\nDisableDNS=yes\nDriver=bridge\nGateway=10.1.0.1\nGateway=fd00::1',
    ),
    {
      name: 'app',
      subnets: ['10.1.0.0/24', 'fd00::/64'],
      ipv6: false,
      lines: ['internal = true', 'dns = false'],
      complaints: [],
    },
  );
  const { complaints, name, ipv6 } = network(
    'NetworkName=n\nIPv6=1\nGateway=10.1.0.9\nDriver=macvlan\nSubnet=1 # x\nX=y\n[Unit]\nAfter=a',
  );
  assert.deepEqual([name, ipv6], ['n', true]);
  assert.deepEqual(
    complaints.map(({ line, key }) => `${line} ${key}`),
    ['5 Driver=', '6 Subnet=', '7 X=', '9 After=', '4 Gateway='],
  );
});

test('.volume', () => {
  const complaints = (lines: string) =>
    translateVolume(quadletFile('d.volume', `[Volume]\n${lines}\n`)).complaints.map(({ key }) => key);
  assert.deepEqual(complaints('VolumeName=x\nCopy=true\nDriver=local'), []);
  assert.deepEqual(complaints('VolumeName=../x'), ['VolumeName=']);
  assert.deepEqual(complaints('Device=/dev/x\nType=ext4\nUser=5\nCopy=no\nLabel=a=b'), [
    'Device=',
    'Type=',
    'User=',
    'Copy=',
    'Label=',
  ]);
});

test('.image', () => {
  const image = (lines: string) => translateImage(quadletFile('i.image', `[Image]\n${lines}\n`));
  const {
    image: name,
    parts,
    complaints,
  } = image('Image="r/x:1"\nArch=arm64\nVariant=v8\nTLSVerify=false\nPolicy=newer');
  assert.deepEqual(
    [name, parts.flatMap(({ words }) => words), complaints],
    ['r/x:1', ['--tls-verify=false', '--pull=newer', '--platform=linux/arm64/v8'], []],
  );
  assert.deepEqual(
    image('OS=linux\nAllTags=true').complaints.map(({ key, reason }) => `${key} ${reason}`),
    ['AllTags= one image is pulled', 'OS= without Arch= there is no platform', 'Image= it is missing'],
  );
});

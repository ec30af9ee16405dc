/** .container files as words of ocictl install: every key, and why some are refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CONTAINER_KEYS, JOINT_KEYS } from '../../../src/quadlet/container-keys.ts';
import { throwsOci } from '../expect-error.ts';
import { container, quadletFile } from './quadlet.ts';

/** With a network, so that none is added. */
const wordsOf = (lines: string) => {
  const { words, complaints } = container(`Network=none\n${lines}`);
  assert.deepEqual(complaints, [], lines);
  return words.filter((word) => word !== '--network=none');
};
const refusedBy = (lines: string) => {
  const { words, complaints } = container(`Network=none\n${lines}`);
  assert.deepEqual(words, ['--network=none'], lines);
  return complaints.map(({ line, key, reason }) => `${line} ${key} ${reason}`);
};

test('keys that are options', () => {
  const table: Record<string, string[]> = {
    'AddCapability=NET_ADMIN CAP_CHOWN\nDropCapability=all': [
      '--cap-add=NET_ADMIN',
      '--cap-add=CAP_CHOWN',
      '--cap-drop=all',
    ],
    'AddDevice=/dev/fuse:/dev/f:rw': ['--device=/dev/fuse:/dev/f:rw'],
    'AddHost=a:1.2.3.4\nDNS=1.1.1.1\nDNSOption=ndots:1\nDNSSearch=.': [
      '--add-host=a:1.2.3.4',
      '--dns=1.1.1.1',
      '--dns-option=ndots:1',
      '--dns-search=.',
    ],
    'Annotation=a=b "c=d e"\nLabel=x=y': ['--label=a=b', '--label=c=d e', '--label=x=y'],
    'Entrypoint=["a", "b"]': ['--entrypoint=["a", "b"]'],
    'Environment=A=1 "B=2 3"\nEnvironment=\nEnvironment=C=%n': ['--env=C=web.service'],
    'EnvironmentFile=env /etc/e': ['--env-file=/etc/q/env', '--env-file=/etc/e'],
    'GroupAdd=audio': ['--group-add=audio'],
    'HostName=h': ['--hostname=h'],
    'LogDriver=journald\nLogOpt=tag=t': ['--log-tag=t'],
    'Memory=1g\nPidsLimit=5\nShmSize=1m': ['--memory=1g', '--pids-limit=5', '--shm-size=1m'],
    'NoNewPrivileges=true\nReadOnly=yes\nReadOnlyTmpfs=on\nRunInit=1': [
      '--security-opt=no-new-privileges',
      '--read-only',
      '--init',
    ],
    'NoNewPrivileges=no\nReadOnly=0\nRunInit=off\nNotify=false': [],
    'Notify=true': ['--notify'],
    'PublishPort=8080:80\nPublishPort=127.0.0.1:1:2/udp': [
      '--publish=8080:80',
      '--publish=127.0.0.1:1:2/udp',
    ],
    'Pull=newer\nAutoUpdate=registry': ['--pull=newer', '--auto-update=registry'],
    'SeccompProfile=unconfined': ['--seccomp=unconfined'],
    'SeccompProfile=p.json': ['--seccomp=/etc/q/p.json'],
    'StopSignal=SIGINT\nStopTimeout=3\nWorkingDir=/w': [
      '--stop-signal=SIGINT',
      '--stop-timeout=3',
      '--workdir=/w',
    ],
    'Sysctl=net.a=1 net.b=2\nUlimit=nofile=1:2': [
      '--sysctl=net.a=1',
      '--sysctl=net.b=2',
      '--ulimit=nofile=1:2',
    ],
    'Timezone=Europe/Berlin': ['--env=TZ=Europe/Berlin'],
    'Tmpfs=/t:size=1m': ['--tmpfs=/t:size=1m'],
    'User=1000\nGroup=100': ['--user=1000:100'],
    'User="app"': ['--user=app'],
    'UserNS=auto': ['--userns=auto'],
    'UserNS=host': ['--userns=host'],
    'ContainerName=db': ['--hostname=db'],
    'ContainerName=web\nHostName=h\nCgroupsMode=split\nSecurityLabelDisable=true\nExposeHostPort=80': [
      '--hostname=h',
    ],
    'Mask=/proc/a:/proc/b\nUnmask=ALL': ['--security-opt=mask=/proc/a:/proc/b', '--security-opt=unmask=ALL'],
    'Secret=token\nSecret=token,type=mount,target=/run/secrets/t,mode=0400': [
      '--credential=token:/etc/credstore/token',
      '--credential=t:/etc/credstore/token',
    ],
    'Secret=sealed': ['--credential-encrypted=sealed:/etc/credstore.encrypted/sealed'],
    'Mount=type=image,source=i,target=/i': ['--mount=type=image,source=i,target=/i'],
    'PodmanArgs=--cpus 1.5 -m=1g --init -p 1:2 --tz UTC': [
      '--cpus=1.5',
      '--memory=1g',
      '--init',
      '--publish=1:2',
      '--env=TZ=UTC',
    ],
  };
  for (const [lines, words] of Object.entries(table)) assert.deepEqual(wordsOf(lines), words, lines);
});

test('what is refused, by line and name', () => {
  const table: Record<string, RegExp[]> = {
    'Foo=1\nFoo=2': [/^4 Foo= there is no such key$/, /^5 Foo=/],
    'Pod=x.pod': [/^4 Pod= there are no pods/],
    'PodmanArgs=--privileged --network-alias x y -d': [/--privileged/, /--network-alias/, /-d is no option/],
    'PodmanArgs="open': [/quotation mark/],
    'Environment=ALONE': [/without a value/],
    'Environment=A=$HOME': [], // not a word of its own, and no braces
    'Environment=A=$\x7bHOME\x7d': [/variable of the service/],
    'Group=5': [/without User=/],
    'LogDriver=none': [/journal/],
    'UserNS=keep-id': [/fresh range/],
    'UIDMap=0:1:2': [/range of 65536/],
    'Volume=/data': [/names no directory/],
    'Volume=x.volume:/data': [/x.volume is not among/],
    'Volume=/a:/b:U': [/option U/],
    'Volume=/a:/b:ro:z': [/too many parts/],
    'Mount=type=image,source=i.image,target=/i': [/i.image is not among/],
    'Secret=key': [/podman secret inspect .* key >\/etc\/credstore\/key/],
    'Secret=token,type=env,target=T': [/Secret=token and Environment=T_FILE=\/run\/secrets\/token$/],
    'Secret=token,target=/etc/token': [/a file in \/run\/secrets/],
    'Secret=token,uid=5': [/^4 Secret= uid: .* user, and for nobody else/],
    'ReadOnlyTmpfs=false': [/always a file system in memory/],
    'ReadOnly=perhaps': [/neither yes nor no/],
    'HostName=a\nContainerName=b\nNetworkAlias=web': [/^5 ContainerName= .* web and a already/],
  };
  for (const [lines, patterns] of Object.entries(table)) {
    const complaints = container(`Network=none\n${lines}`).complaints.map(
      ({ line, key, reason }) => `${line} ${key} ${reason}`,
    );
    assert.equal(complaints.length, patterns.length, `${lines}: ${complaints.join('; ')}`);
    for (const [index, pattern] of patterns.entries()) assert.match(complaints[index]!, pattern);
  }
  assert.deepEqual(refusedBy('Retry=3'), ['4 Retry= how often a pull is tried again is not to be chosen']);
});

test('every key has a rule, and a value that names nothing is no crash', () => {
  for (const key of [...Object.keys(CONTAINER_KEYS), ...JOINT_KEYS])
    for (const value of ['x', '""', ':', ',', '=', '-', '%', "'", ':::', '\\'])
      if (key !== 'Image') container(`${key}=${value}`);
  for (const key of ['constructor', '__proto__', 'toString'])
    assert.deepEqual(
      container(`${key}=1`).complaints.map(({ reason }) => reason),
      ['there is no such key'],
    );
});

test('files of the host keep their owners, unless ids are mapped; labels are dropped', () => {
  assert.deepEqual(wordsOf('Volume=/srv:/data:Z,ro'), ['--volume=/srv:/data:ro,idmap']);
  assert.deepEqual(wordsOf('Volume=./conf:/c'), ['--volume=/etc/q/conf:/c:idmap']);
  assert.deepEqual(wordsOf('Volume=/etc/localtime:/etc/localtime:ro'), [
    '--volume=/etc/localtime:/etc/localtime:ro',
  ]);
  assert.deepEqual(wordsOf('Volume=/srv:/data\nUserNS=auto'), ['--volume=/srv:/data', '--userns=auto']);
  assert.deepEqual(wordsOf('Volume=/srv:/data\nUserNS=host'), ['--volume=/srv:/data', '--userns=host']);
  assert.deepEqual(wordsOf('Volume=name:/data:U,z'), ['--volume=name:/data']);
  assert.deepEqual(wordsOf('Mount=type=bind,source=/a,target=/b,relabel=shared,ro'), [
    '--mount=type=bind,source=/a,target=/b,ro,idmap',
  ]);
  assert.deepEqual(wordsOf('Mount=type=tmpfs,target=/t,tmpfs-size=1m'), [
    '--mount=type=tmpfs,target=/t,tmpfs-size=1m',
  ]);
});

test('networks and volumes of other files; podman gives a bridge to who says nothing', () => {
  const files = [
    quadletFile('app.network', '[Network]\n'),
    quadletFile('odd.network', '[Network]\nNetworkName=front\n'),
    quadletFile('data.volume', '[Volume]\n'),
    quadletFile('own.volume', '[Volume]\nVolumeName=mine\n'),
    quadletFile('bad.volume', '[Volume]\nVolumeName=/etc\n'),
    quadletFile('db.container', '[Container]\nImage=x\nServiceName=database\n'),
  ];
  const words = (lines: string) => container(lines, files).words;
  assert.deepEqual(words(''), ['--network=bridge']);
  assert.deepEqual(words('Network=bridge'), ['--network=bridge']);
  assert.deepEqual(words('Network=host'), ['--network=host']);
  assert.deepEqual(words('Network=app.network:ip=10.0.0.5'), ['--network=bridge:app', '--ip=10.0.0.5']);
  assert.deepEqual(words('Network=odd.network'), ['--network=bridge:front']);
  assert.deepEqual(words('Network=db.container'), ['--network=container=database']);
  assert.deepEqual(
    words('Network=none\nVolume=data.volume:/d\nMount=type=volume,source=own.volume,target=/o'),
    ['--network=none', '--volume=systemd-data:/d', '--mount=type=volume,source=mine,target=/o'],
  );
  assert.deepEqual(words('Network=none\nVolume=bad.volume:/d'), [
    '--network=none',
    '--volume=systemd-bad:/d',
  ]);
  const other = container('Network=lost.network', files);
  assert.deepEqual(
    other.complaints.map(({ reason }) => reason),
    ['lost.network is not among the files that are imported'],
  );
});

test('sections of systemd', () => {
  const files = [
    quadletFile('db.container', '[Container]\nImage=x\n'),
    quadletFile('d.volume', '[Volume]\n'),
  ];
  const sections = (lines: string) => container(`Network=none\n${lines}`, files);
  const { words, complaints } = sections(`[Unit]
Description=My  web
After=network-online.target db.container d-volume.service
Requires=db.container
BindsTo=db.service
ConditionPathExists=/x
[Service]
Restart=on-failure
RestartSec=5s
TimeoutStartSec=900
MemoryMax=1G
Slice=web
Type=notify
ExecStartPre=/bin/true
User=root
Environment=A=b
PrivateUsers=no
Unknown=1
[Install]
WantedBy=default.target
RequiredBy=x.target
[Quadlet]
DefaultDependencies=false
[X-Mine]
Any=thing
[Odd]
Any=thing`);
  assert.deepEqual(words, [
    '--network=none',
    '--property=Description=My  web',
    '--after=network-online.target',
    '--after=db.service',
    '--requires=db.service',
    '--property=BindsTo=db.service',
    '--property=Restart=on-failure',
    '--property=RestartMode=direct',
    '--property=RestartSec=5s',
    '--property=TimeoutStartSec=900',
    '--property=MemoryMax=1G',
    '--slice=web',
    '--wanted-by=default.target',
    '--enable',
  ]);
  assert.deepEqual(
    complaints.map(({ line, key }) => `${line} ${key}`),
    [
      '9 ConditionPathExists=',
      '17 ExecStartPre=',
      '18 User=',
      '19 Environment=',
      '20 PrivateUsers=',
      '21 Unknown=',
      '24 RequiredBy=',
      '30 Any=',
    ],
  );
});

test('Exec=, the image, and the name of the service', () => {
  const { command, image, name } = container('Exec=sh -c "echo $$HOME \'a b\'" %N ""\nServiceName=site');
  assert.deepEqual([command, image, name], [['sh', '-c', "echo $HOME 'a b'", 'site', ''], 'img', 'site']);
  throwsOci(() => container('Image=\nImage='), 'BAD_UNIT_FILE', /names no image/);
  throwsOci(() => container('Image=--root=/x'), 'BAD_UNIT_FILE', /names no image/);
});

test('names of files', () => {
  assert.equal(quadletFile('a@.container', '').stem, 'a@');
  for (const path of ['a@b.container', 'a@.volume', 'a@b.network'])
    throwsOci(() => quadletFile(path, ''), 'UNSUPPORTED', /only \.container files can be templates/);
  throwsOci(() => quadletFile('a.pod', ''), 'UNSUPPORTED', /no \.pod units/);
  for (const path of [
    'a.service',
    '.container',
    'a b.container',
    '@.container',
    'a@b@.container',
    'container',
    '-a.container',
  ])
    throwsOci(() => quadletFile(path, ''), 'USAGE', /not named as/);
});

test('a template: its instance where install knows it, elsewhere refused; wanted, but not enabled', () => {
  const lines = `Network=none
ContainerName=c-%i
Environment=WHO=%i N=%n
Label=who=%i
Volume=/srv/%i:/data
PublishPort=80%i:80
Mount=type=bind,src=/srv/%i,dst=/x
Exec=serve %i
[Unit]
After=db@%i.service
[Service]
CPUQuota=50%
[Install]
WantedBy=multi-user.target
DefaultInstance=a`;
  const { name, words, command, complaints } = container(lines, [], 'site@.container');
  assert.equal(name, 'site@');
  assert.deepEqual(words, [
    '--network=none',
    '--env=WHO=%i',
    '--env=N=site@%i.service',
    '--label=who=%i',
    '--volume=/srv/%i:/data:idmap',
    '--hostname=c-%i',
    '--property=CPUQuota=50%',
    '--wanted-by=multi-user.target',
  ]);
  assert.deepEqual(command, []);
  assert.deepEqual(
    complaints.map(({ line, key, reason }) => `${line} ${key} ${reason.split(' ').slice(0, 4).join(' ')}`),
    [
      '8 PublishPort= its instance is known',
      '9 Mount= its instance is known',
      '12 After= its instance is known',
      '17 DefaultInstance= instances are enabled by',
      '10 Exec= its instance is known',
    ],
  );
});

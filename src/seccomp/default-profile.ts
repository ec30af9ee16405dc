/**
 * The default profile: what a payload may ask of the kernel. Every call of the tables is in exactly one of the lists
 * below (default-profile.test.ts), so that a newer kernel's calls are decided on, not forgotten.
 *
 * Refused is what no usual program needs and what has a history of defects or is not separated between containers;
 * what only a capability makes useful comes with that capability.
 */
import type { Seccomp } from '../oci/runtime-spec.ts';
import { ENOSYS, EPERM } from './actions.ts';

const words = (...lines: string[]): string[] => lines.flatMap((line) => line.split(' '));

/** Every container. Whether a call succeeds is still up to the kernel: capabilities, permissions, limits. */
export const ALLOWED: readonly string[] = [
  // open files: read, write, copy, wait, lock, watch
  ...words(
    'open openat openat2 creat close close_range read write readv writev pread64 pwrite64 preadv pwritev preadv2',
    'pwritev2 lseek _llseek dup dup2 dup3 fcntl fcntl64 ioctl flock fsync fdatasync sync syncfs sync_file_range',
    'sync_file_range2 arm_sync_file_range truncate truncate64 ftruncate ftruncate64 fallocate fadvise64',
    'fadvise64_64 arm_fadvise64_64 readahead sendfile sendfile64 splice tee vmsplice copy_file_range pipe pipe2',
    'select _newselect pselect6 pselect6_time64 poll ppoll ppoll_time64 epoll_create epoll_create1 epoll_ctl',
    'epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd signalfd4',
    'inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark cachestat',
    'io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64',
  ),
  // names and attributes of files
  ...words(
    'stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat oldstat oldlstat oldfstat statx statfs statfs64',
    'fstatfs fstatfs64 access faccessat faccessat2 getcwd chdir fchdir getdents getdents64 readdir mkdir mkdirat',
    'rmdir link linkat symlink symlinkat readlink readlinkat unlink unlinkat rename renameat renameat2 mknod mknodat',
    'chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 lchown lchown32 fchownat umask utime utimes',
    'utimensat utimensat_time64 futimesat setxattr lsetxattr fsetxattr setxattrat getxattr lgetxattr fgetxattr',
    'getxattrat listxattr llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat',
    'file_getattr file_setattr name_to_handle_at statmount listmount',
  ),
  // memory
  ...words(
    'brk mmap mmap2 munmap mprotect mremap msync madvise mincore mlock mlock2 mlockall munlock munlockall',
    'remap_file_pages memfd_create memfd_secret mseal map_shadow_stack pkey_alloc pkey_free pkey_mprotect',
    'membarrier mbind get_mempolicy set_mempolicy set_mempolicy_home_node process_mrelease cacheflush',
  ),
  // processes and threads. clone, clone3 and personality: see conditions()
  ...words(
    'fork vfork execve execveat exit exit_group wait4 waitid waitpid getpid getppid gettid getpgid getpgrp setpgid',
    'getsid setsid set_tid_address set_thread_area get_thread_area set_tls get_tls arch_prctl modify_ldt prctl',
    'futex futex_time64 futex_wait futex_waitv futex_wake futex_requeue set_robust_list get_robust_list rseq',
    'rseq_slice_yield restart_syscall pidfd_open pidfd_send_signal ptrace process_vm_readv process_vm_writev',
    'seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self lsm_get_self_attr lsm_list_modules',
    // the kernel's own way back from a probe that somebody outside has put into the program
    'uprobe uretprobe breakpoint usr26 usr32',
  ),
  // signals
  ...words(
    'kill tkill tgkill rt_sigaction rt_sigprocmask rt_sigpending rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn',
    'rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 sigaction sigaltstack signal sigpending sigprocmask',
    'sigreturn sigsuspend sgetmask ssetmask pause alarm',
  ),
  // users, groups, capabilities
  ...words(
    'getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid',
    'getresgid32 getgroups getgroups32 setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32',
    'setresuid setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 setgroups setgroups32',
    'capget capset',
  ),
  // time and scheduling; setting the clock through adjtimex needs CAP_SYS_TIME anyway
  ...words(
    'time times gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep',
    'clock_nanosleep_time64 nanosleep getitimer setitimer timer_create timer_delete timer_getoverrun timer_gettime',
    'timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime',
    'timerfd_settime64 adjtimex clock_adjtime clock_adjtime64 sched_yield sched_getaffinity sched_setaffinity',
    'sched_getattr sched_setattr sched_getparam sched_setparam sched_getscheduler sched_setscheduler',
    'sched_get_priority_max sched_get_priority_min sched_rr_get_interval sched_rr_get_interval_time64 getpriority',
    'setpriority nice ioprio_get ioprio_set getcpu',
  ),
  // sockets and System V or POSIX ipc; socket: see conditions()
  ...words(
    'socketcall socketpair bind connect listen accept accept4 getsockname getpeername getsockopt setsockopt send',
    'sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64 shutdown ipc semget semop semtimedop',
    'semtimedop_time64 semctl msgget msgsnd msgrcv msgctl shmget shmat shmdt shmctl mq_open mq_unlink mq_notify',
    'mq_getsetattr mq_timedsend mq_timedsend_time64 mq_timedreceive mq_timedreceive_time64',
  ),
  // the machine and limits
  ...words('uname olduname oldolduname sysinfo getrandom getrlimit ugetrlimit setrlimit prlimit64 getrusage'),
];

/** With one of the capabilities. */
export const WITH_CAPABILITY: readonly { capabilities: readonly string[]; names: readonly string[] }[] = [
  {
    capabilities: ['CAP_SYS_ADMIN'],
    names: words(
      'mount umount umount2 pivot_root fsopen fsconfig fsmount fspick move_mount open_tree open_tree_attr',
      'mount_setattr unshare setns listns sethostname setdomainname quotactl quotactl_fd fanotify_init',
      'lsm_set_self_attr',
    ),
  },
  { capabilities: ['CAP_SYS_ADMIN', 'CAP_BPF'], names: ['bpf'] },
  { capabilities: ['CAP_SYS_ADMIN', 'CAP_PERFMON'], names: ['perf_event_open'] },
  { capabilities: ['CAP_SYS_ADMIN', 'CAP_SYSLOG'], names: ['syslog'] },
  { capabilities: ['CAP_DAC_READ_SEARCH'], names: ['open_by_handle_at'] },
  { capabilities: ['CAP_SYS_BOOT'], names: ['reboot'] },
  { capabilities: ['CAP_SYS_CHROOT'], names: ['chroot'] },
  { capabilities: ['CAP_SYS_MODULE'], names: words('init_module finit_module delete_module') },
  { capabilities: ['CAP_SYS_NICE'], names: words('migrate_pages move_pages') },
  { capabilities: ['CAP_SYS_PACCT'], names: ['acct'] },
  {
    capabilities: ['CAP_SYS_PTRACE'],
    names: words('kcmp process_madvise pidfd_getfd userfaultfd'),
  },
  {
    capabilities: ['CAP_SYS_RAWIO'],
    names: words('ioperm iopl pciconfig_iobase pciconfig_read pciconfig_write'),
  },
  { capabilities: ['CAP_SYS_TIME'], names: words('settimeofday stime clock_settime clock_settime64') },
  { capabilities: ['CAP_SYS_TTY_CONFIG'], names: ['vhangup'] },
];

/** Nobody. */
export const REFUSED: readonly string[] = [
  // keyrings belong to users of the whole machine
  ...words('add_key keyctl request_key'),
  // does its work past this filter, and has had more holes than any other part of the kernel
  ...words('io_uring_setup io_uring_enter io_uring_register'),
  // another kernel, swap space: the whole machine's
  ...words('kexec_load kexec_file_load swapon swapoff'),
  // old, dangerous, without use
  ...words('uselib ustat sysfs vm86 vm86old lookup_dcookie'),
];

/** The kernel does not have them any more, and answers ENOSYS itself. */
export const GONE: readonly string[] = words(
  '_sysctl afs_syscall bdflush break create_module ftime get_kernel_syms getpmsg gtty idle lock mpx nfsservctl prof',
  'profil putpmsg query_module security stty tuxcall ulimit vserver',
);

/** Decided by their arguments, in the exact form of the profile. */
export const CONDITIONAL: readonly string[] = ['clone', 'clone3', 'personality', 'socket'];

/**
 * The exact form, an allow list with conditions: for a filter that this project compiles. What the tables do not
 * have is newer than they are and gets ENOSYS, so that programs fall back to older calls.
 */
export function defaultProfile(capabilities: readonly string[]): Seccomp {
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: ENOSYS,
    architectures: ARCHITECTURES,
    syscalls: [
      { names: [...ALLOWED, ...granted(capabilities)].sort(), action: 'SCMP_ACT_ALLOW' },
      { names: refusedNames(capabilities), action: 'SCMP_ACT_ERRNO', errnoRet: EPERM },
      ...conditions(capabilities.includes('CAP_SYS_ADMIN')),
    ],
  };
}

/**
 * The form by names alone, a list of what is refused: for systemd's SystemCallFilter=, which knows no conditions and
 * takes 25 ms to build an allow list. setns stays open: joining the container's user namespace is how a payload
 * starts, and without CAP_SYS_ADMIN there is no other that it could join. Two calls are new to systemd 257, which
 * would say so in the journal at every start; the kernel itself wants CAP_SYS_ADMIN for what they change.
 */
export function defaultProfileByNames(capabilities: readonly string[]): Seccomp {
  return {
    defaultAction: 'SCMP_ACT_ALLOW',
    architectures: ARCHITECTURES,
    syscalls: [
      {
        names: refusedNames(capabilities).filter(
          (name) => !['setns', 'listns', 'open_tree_attr'].includes(name),
        ),
        action: 'SCMP_ACT_ERRNO',
        errnoRet: EPERM,
      },
    ],
  };
}

/** 32-bit programs run wherever the machine runs them. */
const ARCHITECTURES = ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'];

function granted(capabilities: readonly string[]): string[] {
  return WITH_CAPABILITY.filter((group) =>
    group.capabilities.some((name) => capabilities.includes(name)),
  ).flatMap(({ names }) => names);
}

function refusedNames(capabilities: readonly string[]): string[] {
  const allowed = new Set(granted(capabilities));
  return [...REFUSED, ...WITH_CAPABILITY.flatMap(({ names }) => names)]
    .filter((name) => !allowed.has(name))
    .sort();
}

const EAFNOSUPPORT = 97;
const INT = 0xffff_ffff; // the kernel reads an int: what is in the upper half of the register does not count
const AF_ALG = 38;
const AF_VSOCK = 40;
const UNAME26 = 0x0002_0000;
const PER_LINUX32 = 0x0008;
const PERSONALITY_QUERY = 0xffff_ffff;
/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET of linux/sched.h. */
const NAMESPACE_FLAGS = [
  0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000,
];

type Entry = NonNullable<Seccomp['syscalls']>[number];

function masked(index: number, mask: number, want: number): Entry['args'] {
  return [{ index, value: mask, valueTwo: want, op: 'SCMP_CMP_MASKED_EQ' }];
}

function refuse(name: string, errnoRet: number, args: Entry['args'] = []): Entry {
  return { names: [name], action: 'SCMP_ACT_ERRNO', errnoRet, args };
}

const NO_VSOCK = refuse('socket', EAFNOSUPPORT, masked(0, INT, AF_VSOCK));

/** What makes processes makes no namespaces. */
const NO_NAMESPACES: readonly Entry[] = [
  ...NAMESPACE_FLAGS.map((flag) => refuse('clone', EPERM, masked(0, flag, flag))),
  // its flags lie in memory, where a filter cannot look; libc falls back to clone
  refuse('clone3', ENOSYS),
];

/** What the form by names lacks where no user namespace makes up for it. */
export const HOST_USERS_CONDITIONS: readonly Entry[] = [...NO_NAMESPACES, NO_VSOCK];

function conditions(namespaces: boolean): Entry[] {
  const compared = (op: string, value: number) => [{ index: 0, value, op }];
  const allow = (name: string, args: Entry['args'] = []): Entry => ({
    names: [name],
    action: 'SCMP_ACT_ALLOW',
    args,
  });
  const allFlags = NAMESPACE_FLAGS.reduce((sum, flag) => sum + flag);
  return [
    // not separated between containers: the machine's crypto API and the way to its hypervisor
    refuse('socket', EAFNOSUPPORT, masked(0, INT, AF_ALG)),
    NO_VSOCK,
    allow('socket', compared('SCMP_CMP_LT', AF_ALG)),
    allow('socket', compared('SCMP_CMP_EQ', AF_ALG + 1)),
    allow('socket', compared('SCMP_CMP_GT', AF_VSOCK)),
    // 32-bit and old names of the system; nothing that turns off the randomisation of addresses
    allow('personality', masked(0, INT - UNAME26 - PER_LINUX32, 0)),
    allow('personality', masked(0, INT, PERSONALITY_QUERY)),
    ...(namespaces
      ? [allow('clone'), allow('clone3')]
      : [...NO_NAMESPACES, allow('clone', masked(0, allFlags, 0))]),
  ];
}

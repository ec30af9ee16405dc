/**
 * The environment of a program of ours that a test starts: nothing of the tester's, but for where programs are and where
 * Node.js keeps what it has compiled (scripts/test-unit.ts), which makes the start from source three times as fast.
 */
const { PATH, NODE_COMPILE_CACHE } = process.env;

export const CHILD_ENVIRONMENT: NodeJS.ProcessEnv = { PATH, NODE_COMPILE_CACHE };

// Runs the tests of this folder: `node run.mjs FOLDER NAME`, where FOLDER has NAME.js and
// NAME_bg.wasm, which `glue` has generated.
//
// Each test gets its own instance of the module, since a panic leaves an instance unusable.

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, name] = process.argv.slice(2);
const glue = pathToFileURL(resolve(folder, `${name}.js`));
const module = new WebAssembly.Module(readFileSync(resolve(folder, `${name}_bg.wasm`)));

let instances = 0;

/** Creates an instance: node evaluates the glue again for each distinct query. */
async function instantiate() {
  const instance = await import(`${glue}?instance=${instances++}`);
  instance.initSync({ module });
  return instance;
}

let passed = 0;
let failed = 0;

async function test(test, run) {
  const instance = await instantiate();
  try {
    await run(instance);
    passed += 1;
    console.log(`ok ${test}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED ${test}: ${instance.panic_message() || error.stack}`);
  }
}

const exported = WebAssembly.Module.exports(module).map((found) => found.name);
for (const name of exported.filter((name) => name.startsWith('test_'))) {
  await test(name, (instance) => instance[name]());
}

// Like a server that restarts: a client must not resume with indexes of the previous run.
await test('epochs_differ_between_instances', async (instance) => {
  const epochs = new Set([instance.epoch()]);
  for (let i = 0; i < 20; i++) epochs.add((await instantiate()).epoch());
  if (epochs.size !== 21) throw new Error(`${epochs.size} different epochs in 21 instances`);
});

console.log(`${passed} passed, ${failed} failed`);
if (failed > 0 || passed < 2) process.exit(1);

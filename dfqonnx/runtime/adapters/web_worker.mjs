// The job of `worker.py` in ONNX Runtime Web: `node web_worker.mjs FOLDER MODULES`, where MODULES
// is the node_modules that has onnxruntime-web. One thread of WebAssembly, as a browser without
// cross-origin isolation gives.
import { createRequire } from 'node:module';
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, modules] = process.argv.slice(2);
const job = JSON.parse(fs.readFileSync(path.join(folder, 'job.json'), 'utf-8'));
const base = path.join(modules, 'onnxruntime-web');
const version = JSON.parse(fs.readFileSync(path.join(base, 'package.json'), 'utf-8')).version;
const result = { stage: 'import', version };
const tell = (stage, more = {}) => {
  Object.assign(result, { stage }, more);
  fs.writeFileSync(path.join(folder, 'result.json'), JSON.stringify(result));
};
const ARRAYS = {
  float32: Float32Array, float64: Float64Array, uint8: Uint8Array, int8: Int8Array,
  int32: Int32Array, int64: BigInt64Array,
};

async function main() {
  tell('import');
  const entry = createRequire(path.join(modules, 'x.js')).resolve('onnxruntime-web');
  const found = await import(pathToFileURL(entry).href);
  const ort = found.default ?? found;
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = pathToFileURL(path.join(base, 'dist')).href + '/';
  ort.env.logLevel = 'fatal';
  const data = fs.readFileSync(path.join(folder, 'inputs.bin'));
  const Kind = ARRAYS[job.dtype];
  const [runs, ...shape] = job.shape;
  const size = shape.reduce((a, b) => a * b, 1);
  const all = new Kind(data.buffer, data.byteOffset, runs * size);
  const open = async (name) => {
    const options = { executionProviders: ['wasm'], graphOptimizationLevel: 'all' };
    const bytes = fs.readFileSync(path.join(folder, name));
    const session = await ort.InferenceSession.create(new Uint8Array(bytes), options);
    return (k) => {
      const x = new ort.Tensor(job.dtype, all.slice(k * size, (k + 1) * size), shape);
      return session.run({ [job.input]: x }).then((y) => session.outputNames.map((o) => y[o]));
    };
  };
  tell('load');
  const student = await open('student.onnx');
  tell('run');
  if (job.seconds) {
    const end = performance.now() + 1000 * job.seconds;
    const outputs = [];
    let count = 0;
    while (count < runs && (count === 0 || performance.now() < end)) {
      for (const [k, y] of (await student(count)).entries()) {
        outputs[k] ??= { dtype: y.type, shapes: [] };
        outputs[k].shapes.push(y.dims);
        const { buffer, byteOffset, byteLength } = y.data;
        const bytes = Buffer.from(buffer, byteOffset, byteLength);
        fs.writeFileSync(path.join(folder, `output-${k}.bin`), bytes, { flag: count ? 'a' : 'w' });
      }
      count += 1;
    }
    Object.assign(result, { runs: count, outputs });
  }
  tell('time');
  if (job.turn_seconds && fs.existsSync(path.join(folder, 'teacher.onnx'))) {
    const both = [await open('teacher.onnx'), student];
    for (const run of both) await run(0);
    const end = performance.now() + 1000 * job.turn_seconds;
    const turns = [];
    while (turns.length < 5 || performance.now() < end) {
      const turn = [];
      for (const run of both) {
        const start = performance.now();
        await run(0);
        turn.push((performance.now() - start) / 1000);
      }
      turns.push(turn);
    }
    tell('end', { turns });
  }
  tell('end');
}

main().catch((error) => tell(result.stage, { error: String(error).slice(0, 4000) }));

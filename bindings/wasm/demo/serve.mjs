// A static server on this machine: node demo/serve.mjs [PORT]
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const TYPES = { '.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript', '.mjs': 'text/javascript',
  '.wasm': 'application/wasm', '.json': 'application/json' };

/** Serves a folder; `asked` holds the paths asked for. A precise clock needs the two headers. */
export async function serve(folder, port = 0) {
  const asked = [];
  const server = http.createServer((request, response) => {
    const name = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
    asked.push(name);
    const file = path.join(folder, name.endsWith('/') ? `${name}index.html` : name);
    const inside = !path.relative(folder, file).startsWith('..');
    const found = inside && fs.statSync(file, { throwIfNoEntry: false });
    if (!found || !found.isFile()) return response.writeHead(404).end();
    response.writeHead(200, { 'content-type': TYPES[path.extname(file)] ?? 'application/octet-stream',
      'content-length': found.size, 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' });
    fs.createReadStream(file).pipe(response);
  });
  await new Promise((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
  return { origin: `http://127.0.0.1:${server.address().port}`, asked, close: () => server.close() };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const site = path.join(path.dirname(fileURLToPath(import.meta.url)), 'site');
  const { origin } = await serve(site, Number(process.argv[2] ?? 8080));
  console.log(`${origin}/`);
}

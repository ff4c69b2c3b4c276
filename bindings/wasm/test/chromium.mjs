// Debian's Chromium, or the one that CHROMIUM names, driven by playwright-core.
import fs from 'node:fs';
import { chromium } from 'playwright-core';

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
  '--disable-background-networking', '--disable-component-update'];

/** A browser with no state of earlier runs. */
export async function launch(flags = []) {
  const executablePath = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
    .find((file) => file && fs.existsSync(file));
  if (!executablePath) throw new Error('no Chromium: install it, or set CHROMIUM to its program');
  return chromium.launch({ executablePath, args: [...FLAGS, ...flags] });
}

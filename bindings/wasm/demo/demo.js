// The page: pictures in, bars out. The networks run in worker.js.
const SIDE = 28, PIXELS = SIDE * SIDE;
const CLASSES = ['T-shirt', 'Trousers', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Boot'];
const SHOWN = 3, SAMPLES = 24;
const $ = (id) => document.getElementById(id);

const worker = new Worker('worker.js', { type: 'module' });
const small = Object.assign(document.createElement('canvas'), { width: SIDE, height: SIDE });
const shrinking = small.getContext('2d', { willReadFrequently: true });
let tests = null, cards = [], asked = 0, stopCamera = null;

const percent = (share) => `${Math.round(share * 100)} %`;

// --- pictures ---------------------------------------------------------------------------------------------------------

/** Draws 28 x 28 brightnesses. */
function draw(canvas, bytes) {
  const image = new ImageData(SIDE, SIDE);
  bytes.forEach((value, i) => image.data.set([value, value, value, 255], i * 4));
  canvas.getContext('2d').putImageData(image, 0, 0);
}

/** A picture as the network was trained on: its middle square, grey, bright on black, from edge to edge of the scale. */
function prepared(source, width, height) {
  const side = Math.min(width, height);
  shrinking.imageSmoothingQuality = 'high';
  shrinking.drawImage(source, (width - side) / 2, (height - side) / 2, side, side, 0, 0, SIDE, SIDE);
  const { data } = shrinking.getImageData(0, 0, SIDE, SIDE);
  const grey = Float32Array.from({ length: PIXELS }, (_, i) => 0.299 * data[i * 4] + 0.587 * data[i * 4 + 1] + 0.114 * data[i * 4 + 2]);
  const border = grey.filter((_, i) => i < SIDE || i >= PIXELS - SIDE || i % SIDE === 0 || i % SIDE === SIDE - 1).sort();
  const ground = border[border.length >> 1];
  const away = grey.map((value) => Math.abs(value - ground)), most = Math.max(32, ...away);
  return Uint8Array.from(away, (value) => (255 * Math.max(0, value / most - 0.06)) / 0.94);
}

/** Shows a picture and asks the networks; `label` is its true class, if that is known. */
function show(bytes, label = null) {
  draw($('seen'), bytes);
  $('truth').className = '';
  $('truth').textContent = '';
  worker.postMessage({ kind: 'classify', id: ++asked, pixels: Float32Array.from(bytes, (value) => value / 255) });
  show.label = label;
}

function showSample(k) {
  stopCamera?.();
  for (const button of $('samples').children) button.setAttribute('aria-pressed', String(Number(button.dataset.k) === k));
  show(tests.pictures.subarray(k * PIXELS, (k + 1) * PIXELS), tests.labels[k]);
}

async function showFile(file) {
  if (!file) return;
  stopCamera?.();
  let picture;
  try {
    picture = await createImageBitmap(file);
  } catch {
    return say('That file is not a picture this browser can read.');
  }
  for (const button of $('samples').children) button.setAttribute('aria-pressed', 'false');
  show(prepared(picture, picture.width, picture.height));
  picture.close();
}

async function startCamera() {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' } });
  } catch (error) {
    return say(error.name === 'NotAllowedError' ? 'The camera was not allowed.' : 'There is no camera here.');
  }
  const video = $('video');
  video.srcObject = stream;
  video.hidden = false;
  await video.play();
  $('camera').setAttribute('aria-pressed', 'true');
  const timer = setInterval(() => show(prepared(video, video.videoWidth, video.videoHeight)), 150);
  stopCamera = () => {
    clearInterval(timer);
    stream.getTracks().forEach((track) => track.stop());
    video.hidden = true;
    $('camera').setAttribute('aria-pressed', 'false');
    stopCamera = null;
  };
}

// --- results ----------------------------------------------------------------------------------------------------------

const say = (text) => { $('state').textContent = text; };

function makeCards(networks) {
  cards = networks.map(({ name, bytes, accuracy }) => {
    const card = $('network').content.cloneNode(true).firstElementChild;
    card.querySelector('h2').textContent = name === 'f32' || name === 'int8' ? `${name}, dense` : name;
    const [size, right] = card.querySelectorAll('.facts span');
    [size.textContent, right.textContent] = [`${Math.round(bytes / 1000)} kB`, `${(accuracy * 100).toFixed(1)} % right`];
    for (let i = 0; i < SHOWN; i++) card.querySelector('ol').insertAdjacentHTML('beforeend', '<li><span><em></em><b></b></span><i></i></li>');
    return card;
  });
  $('networks').replaceChildren(...cards);
}

function showResults(results) {
  const slowest = Math.max(...results.map(({ ms }) => ms));
  results.forEach(({ shares, ms }, i) => {
    const order = shares.map((_, k) => k).sort((a, b) => shares[b] - shares[a]);
    cards[i].querySelector('.time b').textContent = ms.toFixed(ms < 10 ? 2 : 1);
    cards[i].querySelector('.time i').style.setProperty('--share', ms / slowest);
    cards[i].querySelectorAll('ol li').forEach((line, place) => {
      line.querySelector('em').textContent = CLASSES[order[place]];
      line.querySelector('b').textContent = percent(shares[order[place]]);
      line.querySelector('i').style.setProperty('--share', shares[order[place]]);
    });
    if (i > 0) return;
    $('verdict').textContent = CLASSES[order[0]];
    $('sure').textContent = `${percent(shares[order[0]])} sure`;
    if (show.label === null) return;
    const right = show.label === order[0];
    $('truth').className = right ? 'right' : 'wrong';
    $('truth').textContent = right ? 'and right' : `but it is: ${CLASSES[show.label]}`;
  });
}

const told = {
  progress: ({ share }) => say(`reading the networks: ${percent(share)}`),
  ready({ networks, simd }) {
    makeCards(networks);
    say(simd === 'relaxed' ? 'WebAssembly with relaxed SIMD' : 'WebAssembly SIMD');
    $('all').disabled = false;
    if (tests && !asked) showSample(0);
  },
  classified({ id, results }) {
    if (id === asked) showResults(results);
    document.body.dataset.shown = id;
  },
  all({ right, runs, ms }) {
    const shares = right.map((count) => `${(count / tests.labels.length * 100).toFixed(1)} %`);
    say(`right: ${shares.join(', ')}. ${runs.toLocaleString('en')} runs in ${(ms / 1000).toFixed(2)} s`);
    $('all').disabled = false;
  },
  failed({ message }) {
    $('verdict').textContent = 'Sorry';
    $('sure').textContent = message;
    say('');
  },
};
worker.onmessage = ({ data }) => told[data.kind](data);
worker.onerror = ({ message }) => told.failed({ message: message || 'The worker did not start: this browser is too old.' });

// --- controls ---------------------------------------------------------------------------------------------------------

$('file').onchange = ({ target }) => showFile(target.files[0]).then(() => { target.value = ''; });
$('camera').onclick = () => (stopCamera ? stopCamera() : startCamera());
$('next').onclick = () => tests && showSample(Math.floor(Math.random() * tests.labels.length));
$('all').onclick = () => {
  $('all').disabled = true;
  say('running…');
  worker.postMessage({ kind: 'all', ...tests });
};
addEventListener('dragover', (event) => { event.preventDefault(); document.body.classList.add('dropping'); });
addEventListener('dragleave', (event) => { if (!event.relatedTarget) document.body.classList.remove('dropping'); });
addEventListener('drop', (event) => {
  event.preventDefault();
  document.body.classList.remove('dropping');
  showFile(event.dataTransfer.files[0]);
});

/** The elements of an array file whose header has 128 bytes, as the zoo's have. */
const array = async (name) => new Uint8Array(await (await fetch(name)).arrayBuffer()).subarray(128);

const [pictures, labels] = await Promise.all([array('test_images.npy'), array('test_labels.npy')]);
tests = { pictures, labels };
for (let k = 0; k < SAMPLES; k++) {
  const button = document.createElement('button'), canvas = Object.assign(document.createElement('canvas'), { width: SIDE, height: SIDE });
  button.dataset.k = k;
  button.setAttribute('aria-label', `test picture ${k + 1}: ${CLASSES[labels[k]]}`);
  button.onclick = () => showSample(k);
  draw(canvas, pictures.subarray(k * PIXELS, (k + 1) * PIXELS));
  button.append(canvas);
  $('samples').append(button);
}
if (cards.length && !asked) showSample(0);

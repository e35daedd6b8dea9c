// A websocket server made with npm's ws: another implementation than the one that pydrm is built on.
// Prints its port, then a line of JSON for each thing that it sees. Ends when its standard input does.
'use strict';

const { WebSocketServer } = require('ws');

const say = (event) => process.stdout.write(JSON.stringify(event) + '\n');
const server = new WebSocketServer({
  host: '127.0.0.1',
  port: 0,
  perMessageDeflate: { threshold: 0 },
  handleProtocols: (offered) => [...offered].find((name) => name === 'v1') || false,
  verifyClient: ({ req }, answer) => {
    const busy = req.url.startsWith('/busy');
    answer(!busy, 503, 'busy', busy ? { 'Retry-After': '7' } : {});
  },
});

server.on('listening', () => say({ port: server.address().port }));
server.on('connection', (socket, request) => {
  const url = new URL(request.url, 'ws://localhost');
  say({ connected: url.pathname, key: request.headers['x-key'] || '', protocol: socket.protocol, deflates: socket.extensions });
  socket.on('ping', () => say({ ping: true }));
  socket.on('close', (code, reason) => say({ closed: code, reason: reason.toString() }));
  socket.on('message', (data, isBinary) => {
    say({ message: isBinary ? data.toString('hex') : data.toString(), isBinary });
    socket.send(data, { binary: isBinary });
  });
  if (url.pathname === '/feed') {
    const last = Number(url.searchParams.get('last_id') || 0);
    for (let id = last + 1; id <= Math.min(last + 3, 9); id++) socket.send(JSON.stringify({ id }));
    if (last + 3 < 9) socket.close(4000, 'come again');
  } else if (url.pathname === '/fragments') {
    socket.send('one ', { fin: false });
    socket.send('text', { fin: true });
    socket.send(Buffer.from([0, 255]), { binary: true });
  } else if (url.pathname === '/terminate') {
    setTimeout(() => socket.terminate(), 50);
  }
});
process.stdin.on('end', () => process.exit(0)).resume();

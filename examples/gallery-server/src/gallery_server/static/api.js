// Requests to the server. The session is a cookie that scripts cannot read.

export class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `the server answered ${status}`);
    this.status = status;
    this.code = error?.code;
  }
}

export async function call(method, path, body, headers = {}) {
  const options = { method, headers: { ...headers } };
  if (body instanceof Blob) {
    options.body = body;
    options.headers["Content-Type"] = "application/octet-stream";
  } else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  const response = await fetch(path, options);
  const answer = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok) throw new Refused(response.status, answer?.error);
  return answer;
}

// A repetition after a broken connection must not draw twice.
export async function once(path, body) {
  const headers = { "Idempotency-Key": crypto.getRandomValues(new Uint32Array(4)).join("-") };
  for (let attempt = 0; ; attempt++) {
    try {
      return await call("POST", path, body, headers);
    } catch (error) {
      if (error instanceof Refused || attempt === 4) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500 * 2 ** attempt));
    }
  }
}

export function upload(file) {
  return call("POST", `/api/uploads?name=${encodeURIComponent(file.name.slice(-200))}`, file);
}

// Follows a job to its end; the browser reconnects, and says which event it saw last.
export function follow(job, seen) {
  const source = new EventSource(`/api/jobs/${encodeURIComponent(job)}/events`);
  for (const kind of ["state", "step", "warning"]) {
    source.addEventListener(kind, (event) => {
      const data = JSON.parse(event.data);
      if (kind === "state" && data.ended) source.close();
      seen(kind, data);
    });
  }
  return source;
}

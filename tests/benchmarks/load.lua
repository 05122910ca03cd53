-- For wrk: multipart uploads of the photos named in PHOTOS (":" between them), in turns, and a line
-- of JSON with what came of them.
local bodies = {}
for path in string.gmatch(os.getenv("PHOTOS"), "[^:]+") do
  local file = assert(io.open(path, "rb"))
  local data = file:read("*a")
  file:close()
  table.insert(bodies, '--b0und\r\nContent-Disposition: form-data; name="file"; filename="p.jpg"\r\n'
    .. 'Content-Type: image/jpeg\r\n\r\n' .. data .. '\r\n--b0und--\r\n')
end
wrk.method = "POST"
wrk.headers["Content-Type"] = "multipart/form-data; boundary=b0und"

local requests, turn = {}, 0
function init(args)
  for i, body in ipairs(bodies) do
    requests[i] = wrk.format(nil, nil, nil, body)
  end
end

function request()
  turn = turn + 1
  return requests[(turn - 1) % #requests + 1]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "refused": %d, "failed": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, e.status, e.connect + e.read + e.write + e.timeout))
end

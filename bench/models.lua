-- wrk's requests: model calls of the tenants in a file, in turn. Its lines are: path key.
-- Arguments after "--": the file of the calls, the file of the body.
local requests = {}
local turn = 0

function init(args)
  local file = io.open(args[2])
  local body = file:read("*a")
  file:close()
  wrk.method = "POST"
  wrk.headers["content-type"] = "application/json"
  for line in io.lines(args[1]) do
    local path, key = line:match("(%S+) (%S+)")
    requests[#requests + 1] = wrk.format(nil, path, { ["x-api-key"] = key, ["content-type"] = "application/json" }, body)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

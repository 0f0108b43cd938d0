-- wrk's requests: sendMessage of the tenants in a file, in turn. Its lines are: path chat-id.
-- Argument after "--": the file.
local requests = {}
local turn = 0

function init(args)
  wrk.method = "POST"
  wrk.headers["content-type"] = "application/json"
  for line in io.lines(args[1]) do
    local path, chat = line:match("(%S+) (%S+)")
    requests[#requests + 1] = wrk.format(nil, path, nil,
      '{"chat_id":"' .. chat .. '","text":"This is the answer to what you asked, as long as answers are.","parse_mode":"HTML"}')
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

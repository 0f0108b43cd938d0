-- wrk's requests: updates of `chats` chats in turn, their ids counting up from `first`.
-- Arguments after "--": the webhook secret, the first update id, the number of chats.
local next_id, chats

function init(args)
  wrk.method = "POST"
  wrk.headers["content-type"] = "application/json"
  wrk.headers["x-telegram-bot-api-secret-token"] = args[1]
  next_id = tonumber(args[2])
  chats = tonumber(args[3])
end

function request()
  next_id = next_id + 1
  local chat = 1000001 + next_id % chats
  local person = '{"id":' .. chat .. ',"is_bot":false,"first_name":"Load","language_code":"en"}'
  return wrk.format(nil, nil, nil, '{"update_id":' .. next_id .. ',"message":{"message_id":' .. next_id
    .. ',"from":' .. person .. ',"chat":{"id":' .. chat .. ',"first_name":"Load","type":"private"},"date":1800000000,"text":"This is update '
    .. next_id .. ' of a load test"}}')
end

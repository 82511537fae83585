-- title: 工单可见
-- unit: 行
-- meaning: The step that an action became (0: not to be read yet) and the newest state of its order that is to be read. Who did something reads it next: its answer waits until both are there.
-- refresh: 1 s
-- private: for the desk only
-- parameter: order_id String — The order.
-- parameter: action_id String — The action.
SELECT
    (SELECT max(version) FROM order_transitions WHERE order_id = {order_id:String} AND action_id = {action_id:String}) AS step,
    (SELECT max(version) FROM orders WHERE order_id = {order_id:String}) AS state

"""Words on the packaged Chinese lists that are ordinary speech, and so do not count.

The lists came together from chat and game servers: beside abuse they hold coins, roles and messages of games,
exclamations, anatomy and disease, orientations, history, and names of people. Each word here was read and judged
by us; a user's own go into `toxicity.chinese.allow`.
"""

EVERYDAY: dict[str, str] = {
    "people": (
        "小姐 太监 奶奶 公公 姥姥 老头子 老頭子 老太婆 小鬼 小妹妹 小弟弟 小太太 小老婆 奶娘 书呆子 書呆子 "
        "胆小鬼 穷光蛋 窮光蛋 酒鬼 醉鬼 小气鬼 老顽固 糊涂虫 跟屁蟲 瞎子 聋子 聾子 跛子 瘸子 残废 殘廢 "
        "私生子 太平公主 大姨妈 大姨媽 你妈 你媽 你娘 你爸 他娘 她娘 他爺 她爺 的娘 的爺 娘的 妈妈的 媽媽的 "
        "奶奶的 你全家 祖宗 老二 坏蛋 壞蛋 恶棍 惡棍 妖怪 妖精 瘟神 大魔头 母老虎 饶舌者 老母"
    ),
    "things, animals and places": (
        "水晶 馒头 饅頭 大豆腐 炒饭 炒飯 鲍鱼 鮑魚 喇叭 吹喇叭 吹箫 吹簫 旋钮 轮辋 靠背 胸罩 洗面奶 水货 "
        "玫瑰花结 珍珠项炼 珍珠項鍊 鑽石 紅寶石 黃寶石 公共汽车 公共汽車 飞机场 飛機場 航空母舰 航空母艦 "
        "恐龙 幼虫 小鸟 小鳥 哈巴狗 白老鼠 野鸡 咪咪 蛋蛋 角落 桃花園 櫻井 肥西 福寿 福壽 物神 废物 廢物"
    ),
    "acts and qualities": (
        "直立 失声 穿透 渗透 吮吸 吞咽 硬挺 刚度 肆虐 狂欢 激情 高潮 成人 野蛮 无用 無用 無能 迟钝 笨拙 乾爽 "
        "濕了 大變 发疯 發瘋 捣蛋 搗蛋 拍马屁 瞧不起 废话 廢話 低三下四 崇洋媚外 乳臭未干 乳臭未乾 丧心病狂 "
        "杀人不眨眼 無頭蒼蠅 利己主义 马马虎虎 半瓶子醋 二把刀 吃豆腐 私刑 自焚 该死 該死 没门儿 吸毒 要爱 "
        "上你 上妳"
    ),
    "exclamations": (
        "我的天啊 你疯了吗 你怎么回事 你以为你是谁 你以为你在跟谁说话 你会后悔的 那是你的问题 别烦我 "
        "你真烦人 别找借口 别再浪费我的时间了 别那样和我说话 从我面前消失 我都腻了 我真后悔这辈子遇到你"
    ),
    "numbers, and pieces of other words": ("三八 二百五 十三点 13点 五打一 北加 起秋 靠北 交靠 坐交 大比 可因 媽個"),
    "servers and games": (
        "消息 公告 官方 提示 管理者 管理員 客服 私聊 私服 國家 人民幣 台幣 臺幣 新台幣 港幣 金幣 商城幣 中獎 "
        "獲獎 淘寶 點數商 買點卡 買點數 賣點卡 賣點數 賣卡 系統 系統公告 系統訊息 伺服器 指導 指導員 "
        "新手指導 新手指導員 網管 外掛 掛機 腳本 代練 打回合 打第三回合 線上客服 線上管理者 遊戲管理者 "
        "遊戲工程師 遊戲工作人員 遊戲發獎員 售軟體 賣軟體 輪盤賭"
    ),
    "body, medicine and orientation": (
        "性别 性器 性交 性病 性欲 性生活 性无能 性無能 子宫 月经 卵子 精子 精液 乳房 乳头 乳頭 阴道 陰道 "
        "阴茎 陰莖 阴囊 陰囊 阴唇 陰唇 阴部 陰部 外阴 外陰 肛门 肛門 尿道 包皮 龟头 龜頭 睪丸 臀部 屁股 "
        "生殖器 处女 處女 處女膜 處男 勃起 射精 早洩 遺精 夢遺 阳萎 陽痿 流产 淋病 花柳 愛滋 愛滋病 大便 "
        "撒尿 交配 神经衰弱 自闭 自閉 智力障碍 智力障礙 人畜共患病 可待因 泛性恋 安博性恋"
    ),
    "history, politics and names": (
        "希特勒 纳粹 新纳粹 一貫道 一黨專政 師濤 慶紅 戈揚 程凱 程真 程鐵軍 肖強 蔡崇國 蔡陸軍 遲浩田 邢錚 "
        "關卓中 高治聯 高自聯 恩塔特·昆斯特 所多玛"
    ),
}


def everyday_words() -> frozenset[str]:
    """All of them."""
    return frozenset(word for words in EVERYDAY.values() for word in words.split())
